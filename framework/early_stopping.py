"""Early stopping of each replica."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from framework.errors import at_least_one, check_names, not_negative
from framework.settings import Described

Weights = dict[str, Tensor]  # of one replica, by the names of the network's state
_STATE = ("best", "best_epoch", "weights")


class EarlyStopping(Described):
    """Ends a replica's training when its metric has not improved for `patience` epochs.

    The replica then gets the weights of its best epoch. `Trainer.fit` says what happens to the
    other replicas, and how a training goes on.

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

    def start(self, history: Sequence[Any] = ()) -> None:
        """Forget the previous training, and begin with the training that writes this history."""
        self.history = history
        self.best: dict[int, float] = {}
        self.best_epoch: dict[int, int] = {}  # from 0
        self.weights: dict[int, Weights] = {}  # after the best epoch

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
        self.best_epoch.setdefault(replica, epoch - 1)  # if the first value is nan
        if value < self.best.get(replica, math.inf) - self.min_delta:
            self.best[replica], self.best_epoch[replica] = value, epoch
            self.weights[replica] = weights_of(replica, state)
        return epoch - self.best_epoch[replica] >= self.patience

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Copy each replica's best weights into the network's state."""
        set_weights(state, self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best values, epochs and weights of all replicas."""
        return {name: getattr(self, name) for name in _STATE}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """KeyError unless the state is one of early stopping."""
        check_names(state, self.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _STATE:
            setattr(self, name, dict(state[name]))


def weights_of(replica: int, state: Mapping[str, Tensor]) -> Weights:
    """A copy of a replica's part of a network's state."""
    return {name: part[replica].clone() for name, part in state.items()}


def set_weights(state: Mapping[str, Tensor], weights: Mapping[int, Weights]) -> None:
    """Copy the weights of some replicas into a network's state."""
    for replica, own in weights.items():
        for name, value in own.items():
            state[name][replica].copy_(value)
