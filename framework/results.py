"""The results of the batches of an epoch, or of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from framework.data import joined, tensors_in
from framework.errors import tensor_error
from framework.metrics import Measure

Row = dict[str, float]


class Results:
    """Collects predictions, targets and losses, and computes each replica's metrics of all rows.

    Args:
        replicas: the number of replicas.
        reduction: of the rows' losses, see `Loss`.
        measure: computes error rates, see `framework.metrics`.
    """

    def __init__(self, replicas: int, reduction: str, measure: Measure) -> None:
        self.replicas, self.reduction, self.measure = replicas, reduction, measure
        self.predictions: list[Any] = []
        self.targets: list[Any] = []
        self.losses: list[Tensor] = []

    def add(self, prediction: Any, targets: Any, loss: Tensor) -> None:
        """Add a batch; `loss` has the loss of each replica, (replicas,)."""
        self.predictions.append(prediction)
        self.targets.append(targets)
        self.losses.append(loss)

    def rows(self) -> list[Row]:
        """For each replica, the loss over all rows and what `measure` returns."""
        errors = self.measure(joined(self.predictions), joined(self.targets))
        metrics = {"loss": self._loss()} | errors
        for name, values in metrics.items():
            self._check(name, values)
        listed: dict[str, list[float]] = {name: each.tolist() for name, each in metrics.items()}
        return [
            {name: values[replica] for name, values in listed.items()}
            for replica in range(self.replicas)
        ]

    def _loss(self) -> Tensor:
        """The mean over all rows, (replicas,)."""
        for loss in self.losses:
            self._check("loss", loss)
        counts = [tensors_in(targets)[0].shape[1] for targets in self.targets]
        sums = torch.stack(self.losses, 1).double()  # (replicas, batches)
        rows = torch.tensor(counts, dtype=torch.float64, device=sums.device)
        if self.reduction == "mean":
            sums = sums * rows
        return sums.sum(1) / rows.sum()

    def _check(self, name: str, values: Tensor) -> None:
        if values.shape != (self.replicas,):
            accepted = f"({self.replicas},), a number for each replica"
            raise tensor_error(f"the {name} of a batch or an epoch", values, accepted)


def prefixed(split: str, metrics: Mapping[str, float]) -> Row:
    """The metrics of a split of the data, with names such as "train/loss"."""
    return {f"{split}/{name}": value for name, value in metrics.items()}
