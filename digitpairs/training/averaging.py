"""Averages of the weights: exponential moving averages, and stochastic weight averaging."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, number
from digitpairs.training.array_optimizers import kernel_rows, select_rows


def check_decay(key: str, decay: float) -> float:
    """Return the decay of a moving average, or raise InvalidValueError unless 0 <= decay < 1."""
    try:
        value = number(key, decay)
    except InvalidValueError:
        value = 1.0
    if value >= 1:
        raise InvalidValueError(key, decay, "null, or a number from 0 to below 1")
    return value


class ExponentialMovingAverage:
    """Averages of the weights and of batch norm's statistics, of one network or of an array.

    After step t, counted from 0, `average = d * average + (1 - d) * weights`, where
    `d = min(decay, (1 + t) / (10 + t))` (Polyak and Juditsky 1992; the growing decay of
    tf.train.ExponentialMovingAverage and timm lets the first averages forget the initial weights).

    The network has its own weights within `training`, and their averages at all other times, so
    that whatever evaluates, copies or saves it between the epochs uses the averages.

    Args:
        network: whose values at this moment the averages start from.
        decays: of each member, from 0 to below 1; of one network a single one.
        is_array: whether the network's tensors have an axis of members.
    """

    def __init__(self, network: nn.Module, decays: Sequence[float], is_array: bool) -> None:
        self._decays, self._steps = decays, 0
        self._names, self._values = [], []  # in the network, (members, ...) each
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self._names.append(name)
                self._values.append(value if is_array else value[None])
        # Within `training` the averages, at other times the weights.
        self._others = [value.clone() for value in self._values]

    @contextlib.contextmanager
    def training(self, ended: Sequence[bool]) -> Iterator[None]:
        """Give the network its weights, and afterwards the averages.

        The averages of members that have ended stay as they are.
        """
        self._swap()
        self._calls = self._grouped(ended)
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step to the averages."""
        warm_up = (1 + self._steps) / (10 + self._steps)
        for decay, averages, weights in self._calls:
            torch._foreach_lerp_(averages, weights, 1 - min(decay, warm_up))
        self._steps += 1

    def states(self) -> list[dict[str, Any]]:
        """Each member's own weights and number of steps, for `load_states`."""
        named = list(zip(self._names, self._others))
        return [
            {"steps": self._steps, "weights": {name: each[row].clone() for name, each in named}}
            for row in range(len(self._decays))
        ]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore `states`, those of members that have trained equally many steps."""
        self._steps = states[0]["steps"]
        for row, state in enumerate(states):
            for name, other in zip(self._names, self._others):
                other[row].copy_(state["weights"][name])

    @torch.no_grad()
    def _swap(self) -> None:
        kept = [value.clone() for value in self._values]
        torch._foreach_copy_(self._values, self._others)
        torch._foreach_copy_(self._others, kept)

    def _grouped(self, ended: Sequence[bool]) -> list[tuple[float, list[Tensor], list[Tensor]]]:
        """For each decay of the members that have not ended: it, the averages and the weights."""
        members = defaultdict(list)
        for member, decay in enumerate(self._decays):
            if not ended[member]:
                members[decay].append(member)
        return [
            (decay, self._of(self._others, group), self._of(self._values, group))
            for decay, group in members.items()
        ]

    def _of(self, tensors: Sequence[Tensor], group: Sequence[int]) -> list[Tensor]:
        return [row for each in tensors for row in select_rows(each, kernel_rows(each, group))]


class StochasticWeightAveraging(WeightAveraging):
    """The run ends with the mean of its weights after each of its last epochs.

    The learning rate stays that of the schedule. Lightning's callback of this name replaces the
    schedule, and trains an epoch more where there is batch norm; neither suits manual optimisation.
    Buffers, such as the statistics of batch norm, are averaged as well. Validation in these epochs
    is of the mean so far.

    Args:
        start: the share of the epochs before the first one of the mean, from 0 to 1.
    """

    def __init__(self, start: float = 0.75) -> None:
        super().__init__()
        self.start = number("start", start, at_most=1)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        epochs = trainer.max_epochs or 0
        self._first = min(int(self.start * epochs), epochs - 1)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether a step has ended. Lightning's steps are epochs here (see `Epoch`)."""
        if step_idx is None:
            return False
        if step_idx <= self._first and self._average_model is not None:
            self._average_model.n_averaged.zero_()  # the mean is that of this epoch alone
        return True
