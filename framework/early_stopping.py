"""Early stopping of each replica."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from framework.errors import at_least_one, not_negative

_STATE = ("best", "best_epoch", "weights")


class EarlyStopping:
    """Ends a replica's training when its metric has not improved for `patience` epochs.

    The replica then gets the weights of its best epoch.

    Args:
        patience: the number of epochs without an improvement.
        monitor: the name of a metric in the history; lower is better.
        min_delta: smaller improvements do not count.
    """

    def __init__(
        self, patience: int, monitor: str = "validation/loss", min_delta: float = 0.0
    ) -> None:
        self.patience = at_least_one("patience", patience)
        self.monitor = monitor
        self.min_delta = not_negative("min_delta", min_delta)
        self.start()

    def start(self) -> None:
        """Forget the previous training."""
        self.best: dict[int, float] = {}
        self.best_epoch: dict[int, int] = {}  # from 0
        self.weights: dict[int, dict[str, Tensor]] = {}  # after the best epoch

    def ends(self, replica: int, row: Mapping[str, float], state: Mapping[str, Tensor]) -> bool:
        """Return whether the replica's training ends with this epoch.

        Keeps the replica's part of the network's state if the epoch is its best so far.
        ValueError if the row of the history does not have the metric.
        """
        if self.monitor not in row:
            raise ValueError(
                f"early stopping monitors {self.monitor}, accepted is one of {', '.join(row)}"
            )
        value, epoch = row[self.monitor], int(row["epoch"])
        if value < self.best.get(replica, math.inf) - self.min_delta:
            self.best[replica], self.best_epoch[replica] = value, epoch
            self.weights[replica] = {name: part[replica].clone() for name, part in state.items()}
        return epoch - self.best_epoch.get(replica, -1) >= self.patience

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Copy each replica's best weights into the network's state."""
        for replica, weights in self.weights.items():
            for name, value in weights.items():
                state[name][replica].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The best values, epochs and weights of all replicas."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _STATE:
            setattr(self, name, dict(state[name]))
