"""Early stopping, of each replica by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from framework.errors import at_least_one, not_negative

_STATE = ("best", "best_epoch", "weights")


class EarlyStopping:
    """Ends a replica's training when its metric has not improved for `patience` epochs, and goes back to its best weights.

    Args:
        patience: epochs.
        monitor: a metric of the history; lower is better.
        min_delta: what counts as an improvement is a change by more than that.
    """

    def __init__(
        self, patience: int, monitor: str = "validation/loss", min_delta: float = 0.0
    ) -> None:
        self.patience = at_least_one("patience", patience)
        self.monitor, self.min_delta = monitor, not_negative("min_delta", min_delta)
        self.start()

    def start(self) -> None:
        """Forget what was seen: a new training begins."""
        self.best: dict[int, float] = {}
        self.best_epoch: dict[int, int] = {}  # counted from 0, whose weights are kept
        self.weights: dict[int, dict[str, Tensor]] = {}

    def ends(self, replica: int, row: Mapping[str, float], state: Mapping[str, Tensor]) -> bool:
        """Whether the replica ends with this epoch; remembers its part of the state if it is the best so far."""
        if self.monitor not in row:
            raise ValueError(
                f"early stopping monitors {self.monitor}, accepted is one of {', '.join(row)}"
            )
        if row[self.monitor] < self.best.get(replica, math.inf) - self.min_delta:
            self.best[replica], self.best_epoch[replica] = row[self.monitor], int(row["epoch"])
            self.weights[replica] = {name: value[replica].clone() for name, value in state.items()}
        return row["epoch"] - self.best_epoch.get(replica, -1) >= self.patience

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Copies each replica's best weights into the state."""
        for replica, weights in self.weights.items():
            for name, value in weights.items():
                state[name][replica].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in _STATE:
            setattr(self, name, dict(state[name]))
