"""Early stopping of one run: it ends when it stops improving, and gets its best weights back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from digitpairs.checks import InvalidValueError, choice, integer, number, suggestion
from digitpairs.training.metrics import ERRORS, LOSSES

MONITORED = tuple(
    f"{split}/{name}" for split in ("validation", "train") for name in (*ERRORS, *LOSSES)
)
_SETTINGS = ("patience", "monitor", "min_delta")


class EarlyStopping:
    """Ends a run after `patience` epochs that do not lower its best value by more than `min_delta`.

    Lightning's callback of this name has the same arguments, but monitors one value; an array has
    a value for each run.

    Args:
        patience: epochs, at least 1; None never ends a run, which keeps its last weights.
        monitor: a metric of the validation or the training pairs, one of MONITORED.
        min_delta: in the unit of the metric (per cent, nats), at least 0.
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
        """Forget all earlier epochs."""
        self.best_epoch: int | None = None
        self._best = math.inf
        self._weights: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best epoch, its value and its weights."""
        return {"best_epoch": self.best_epoch, "best": self._best, "state": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.best_epoch, self._best = state["best_epoch"], state["best"]
        self._weights = state["state"]

    def ends(self, row: Mapping[str, float], network: nn.Module) -> bool:
        """Whether the run ends with this epoch, given the epoch's row of metrics.

        Raises InvalidValueError if the row lacks the monitored metric.
        """
        if self.patience is None:
            return False
        if self.monitor not in row:
            names = ", ".join(name for name in MONITORED if name in row)
            accepted = f"a metric that this run has: {names}"
            raise InvalidValueError("early_stopping.monitor", self.monitor, accepted)
        value, epoch = row[self.monitor], int(row["epoch"])
        if self.best_epoch is None or value < self._best - self.min_delta:
            self.best_epoch = epoch
            self._best = value if math.isfinite(value) else math.inf
            # Clones: a deep copy of a view would copy the whole array of weights.
            self._weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return epoch - self.best_epoch >= self.patience

    def restore(self, network: nn.Module) -> None:
        """Give the network the weights of its best epoch, if there are any."""
        if self._weights is not None:
            network.load_state_dict(self._weights)


def build_early_stopping(settings: EarlyStopping | Mapping[str, Any] | None) -> EarlyStopping:
    """`settings` as an `EarlyStopping`; None never ends a run."""
    if isinstance(settings, EarlyStopping):
        return settings
    settings = settings or {}
    for key, value in settings.items():
        if key not in _SETTINGS:
            accepted = f"one of {', '.join(_SETTINGS)}{suggestion(key, _SETTINGS)}"
            raise InvalidValueError(key, value, accepted)
    return EarlyStopping(**settings)
