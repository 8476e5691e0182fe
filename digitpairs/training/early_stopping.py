"""Early stopping of one run: when it has stopped improving, it ends and goes back to its best weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from digitpairs.checks import InvalidValueError, choice, integer, number, suggestion

MONITORED = tuple(
    f"{split}/{name}"
    for split in ("validation", "train")
    for name in (
        "comparison_error",
        "comparison_loss",
        "loss",
        "digit_error",
        "digit1_loss",
        "digit2_loss",
    )
)
_SETTINGS = ("patience", "monitor", "min_delta")


class EarlyStopping:
    """Ends a run after `patience` epochs without a value lower than the best by more than `min_delta`.

    Args:
        patience: epochs, at least 1; None never ends a run, and keeps its last weights.
        monitor: what is watched, a metric of the validation or the training pairs, such as "validation/comparison_error".
        min_delta: how much lower a value has to be, in the unit of what is watched (per cent, nats).

    The arguments are those of Lightning's callback of this name, which sees one value where an array of runs has many.
    """

    def __init__(
        self,
        patience: int | None = None,
        monitor: str = "validation/comparison_error",
        min_delta: float = 0.0,
    ) -> None:
        self.patience = None if patience is None else integer("patience", patience, at_least=1)
        self.monitor = choice("monitor", monitor, MONITORED)
        self.min_delta = number("min_delta", min_delta)
        self.start()

    def start(self) -> None:
        """Forget what was seen."""
        self.best_epoch: int | None = None
        self._best, self._state = math.inf, None

    def state_dict(self) -> dict[str, Any]:
        """What was seen, so that a fit can go on."""
        return {"best_epoch": self.best_epoch, "best": self._best, "state": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.best_epoch, self._best, self._state = (
            state["best_epoch"],
            state["best"],
            state["state"],
        )

    def ends(self, row: Mapping[str, float], network: nn.Module) -> bool:
        """Whether the run ends with this epoch, whose row of metrics this is."""
        if self.patience is None:
            return False
        if self.monitor not in row:
            there = ", ".join(name for name in MONITORED if name in row)
            raise InvalidValueError(
                "early_stopping.monitor", self.monitor, f"a metric that this run has: {there}"
            )
        if self.best_epoch is None or row[self.monitor] < self._best - self.min_delta:
            self.best_epoch, self._best = (
                int(row["epoch"]),
                row[self.monitor] if math.isfinite(row[self.monitor]) else math.inf,
            )
            # Clones: a deep copy of a row would copy the whole array that the row is part of.
            self._state = {name: value.clone() for name, value in network.state_dict().items()}
        return row["epoch"] - self.best_epoch >= self.patience

    def restore(self, network: nn.Module) -> None:
        """Give the network the weights of its best epoch, if it was watched."""
        if self._state is not None:
            network.load_state_dict(self._state)


def early_stopping(settings: EarlyStopping | Mapping[str, Any] | None) -> EarlyStopping:
    """Early stopping itself, or from its settings; None is none."""
    if isinstance(settings, EarlyStopping):
        return settings
    for key in settings or {}:
        if key not in _SETTINGS:
            raise InvalidValueError(
                key, settings[key], f"one of {', '.join(_SETTINGS)}{suggestion(key, _SETTINGS)}"
            )
    return EarlyStopping(**(settings or {}))
