"""Checkpoints of arrays, cut into one for each member and joined for another array.

So the members that go on, after others have ended, are packed anew into smaller arrays.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from digitpairs.networks.stacking import stack_keeping_strides
from digitpairs.training.resumable import KEY

Checkpoint = dict[str, Any]
Tensors = Mapping[str, Tensor]


def split(checkpoint: Checkpoint, members: int) -> list[bytes]:
    """A checkpoint of Lightning's, of an array, as one for each member."""
    return [_saved(_part(checkpoint, row, members)) for row in range(members)]


def join(parts: Sequence[bytes]) -> Checkpoint:
    """The checkpoint of an array of these members, which have all trained equally many epochs."""
    loaded = [torch.load(io.BytesIO(part), map_location="cpu") for part in parts]
    first, states = loaded[0], [part["optimizer"] for part in loaded]
    generators = zip(*(part["generators"] for part in loaded))  # (kinds of streams, members)
    optimizer = {
        "state": {index: _stacked([state[index] for state in states]) for index in states[0]},
        "param_groups": first["param_groups"],
    }
    own = {
        "timing": first["timing"],
        "in_epoch": False,
        "loader": {"generators": [each for kind in generators for each in kind]},
        "fit": [part["fit"] for part in loaded],
    }
    weights = _stacked([part["state_dict"] for part in loaded])
    return {**first["common"], "state_dict": weights, "optimizer_states": [optimizer], KEY: own}


def _part(checkpoint: Checkpoint, row: int, members: int) -> Checkpoint:
    own, (optimizer,) = checkpoint[KEY], checkpoint["optimizer_states"]
    elsewhere = ("state_dict", "optimizer_states", KEY)
    common = {key: value for key, value in checkpoint.items() if key not in elsewhere}
    # Lightning keeps the loader's streams here as well; `Resumable` restores them.
    common["loops"]["fit_loop"]["state_dict"] = {}
    return {
        "common": common,
        "state_dict": _row(checkpoint["state_dict"], row),
        "optimizer": {index: _row(state, row) for index, state in optimizer["state"].items()},
        "param_groups": optimizer["param_groups"],
        "timing": own["timing"],
        "generators": own["loader"]["generators"][row::members],
        "fit": own["fit"][row],
    }


def _row(tensors: Tensors, row: int) -> dict[str, Tensor]:
    """A member's rows, copied: a file of a view holds the whole array."""
    return {name: tensor[row].clone() for name, tensor in tensors.items()}


def _stacked(members: Sequence[Tensors]) -> dict[str, Tensor]:
    return {name: stack_keeping_strides([each[name] for each in members]) for name in members[0]}


def _saved(checkpoint: Checkpoint) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
