"""The history of a training, and the weights of the replicas that have ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from framework.early_stopping import EarlyStopping, Weights, set_weights, weights_of
from framework.errors import check_names
from framework.module import Module
from framework.results import Row

_STATE = ("epochs", "history", "failures", "final", "replaced")  # attributes, saved as they are


class Record:
    """The history of each replica, and the weights of those that have ended.

    Attributes:
        epochs, history, failures, ended: see `Trainer`.
        final: the weights of the replicas that have ended.
        replaced: the best weights, and those of the last epoch, of each other replica that has its
            best weights in the network.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas, self.epochs = replicas, 0
        self.history: list[list[Row]] = [[] for _ in range(replicas)]
        self.failures: dict[int, tuple[int, float]] = {}
        self.ended: set[int] = set()
        self.final: dict[int, Weights] = {}
        self.replaced: dict[int, tuple[Weights, Weights]] = {}

    @property
    def training(self) -> list[int]:
        """The replicas that have not ended."""
        return [replica for replica in range(self.replicas) if replica not in self.ended]

    def go_on(self, early_stopping: EarlyStopping | None, network: Module[Any]) -> None:
        """Put the weights of the last epoch back in place of the best ones.

        Weights that the user has changed since then stay. Early stopping begins anew if another
        training has used it.
        """
        if early_stopping is not None and early_stopping.history is not self.history:
            early_stopping.start(self.history)
        state = network.state()
        for replica, (best, latest) in self.replaced.items():
            if all(torch.equal(state[name][replica], values) for name, values in best.items()):
                set_weights(state, {replica: latest})
        self.replaced = {}

    def add(
        self, rows: Sequence[Row], early_stopping: EarlyStopping | None, network: Module[Any]
    ) -> None:
        """Append an epoch's rows, and end replicas."""
        state, finite = network.state(), _finite(network)
        for replica in self.training:
            row = rows[replica]
            self.history[replica].append(row)
            loss = row["train/loss"]
            if not (math.isfinite(loss) and finite[replica]):
                self.failures[replica] = (self.epochs, math.nan if math.isfinite(loss) else loss)
            elif early_stopping is None or not early_stopping.ends(replica, row, state):
                continue
            best = {} if early_stopping is None else early_stopping.weights
            self.final[replica] = best.get(replica) or weights_of(replica, state)
            self.ended.add(replica)
        self.epochs += 1

    def restore_ended(self, network: Module[Any]) -> None:
        """Give the replicas that have ended their weights again."""
        set_weights(network.state(), self.final)

    def restore_best(self, early_stopping: EarlyStopping, network: Module[Any]) -> None:
        """Give the other replicas their best weights."""
        state = network.state()
        best = {
            replica: weights
            for replica, weights in early_stopping.weights.items()
            if replica not in self.ended
        }
        self.replaced = {
            replica: (weights, weights_of(replica, state)) for replica, weights in best.items()
        }
        set_weights(state, best)

    def state_dict(self) -> dict[str, Any]:
        """Everything of which the record consists."""
        return {"ended": sorted(self.ended), **{name: getattr(self, name) for name in _STATE}}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """KeyError unless the state has all that belongs to a record."""
        check_names(state, self.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ended = set(state["ended"])
        for name in _STATE:
            setattr(self, name, state[name])


def _finite(network: Module[Any]) -> list[bool]:
    """Whether all weights of each replica are finite; no loss shows the last step's effect."""
    finite = [parameter.data.flatten(1).isfinite().all(1) for parameter in network.parameters()]
    return torch.stack(finite).all(0).tolist()
