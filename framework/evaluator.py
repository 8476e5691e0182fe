"""The evaluation of a network, or of many replicas of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic

import torch
from torch import Tensor

from framework.batches import Batches
from framework.data import Data, Examples, joined
from framework.errors import instance
from framework.losses import Loss
from framework.metrics import Measure
from framework.module import Module, Output
from framework.results import Results, Row

Source = Examples | Iterable[Any] | Batches  # a pair in memory, or an iterable of pairs


class Evaluator(Generic[Output]):
    """Evaluates replicas of a network; the base of `Trainer`, which describes the arguments."""

    def __init__(
        self, network: Module[Output], loss: Loss[Output], replicas: int, measure: Measure | None
    ) -> None:
        self.network = instance("the network", network, Module)
        self.loss, self.replicas = instance("the loss", loss, Loss), replicas
        if loss.reduction == "none":
            raise ValueError("the loss has reduction='none', accepted is 'mean' or 'sum' to train")
        self.measure: Measure = measure or (lambda prediction, target: {})
        if not callable(self.measure):
            raise ValueError(f"the measure is {measure!r}, accepted is a function, see metrics")

    def evaluate(self, data: Source) -> list[Row]:
        """Compute the loss and the error rates of each replica in evaluation mode.

        `data` is a pair (inputs, targets), see `Data.of`, or an iterable of batches, see `Batches`.
        """
        results = self.new_results()
        self.set_mode(training=False)
        with torch.no_grad():
            for batch in self._evaluation_batches(data):
                prediction = self.network.forward(batch.inputs)
                loss = self.loss.forward(prediction, batch.targets)
                results.add(prediction, batch.targets, loss)
            return results.rows()

    def predict(self, inputs: Tensor) -> Output:
        """Compute the network's outputs, (replicas, n, ...), in evaluation mode.

        Inputs are (replicas, n, ...), or (1, n, ...) for all replicas.
        """
        batches = Data.of((inputs, ()), self.replicas).evaluation_batches()
        self.set_mode(training=False)
        with torch.no_grad():
            outputs: Output = joined([self.network.forward(batch.inputs) for batch in batches])
        return outputs

    def _evaluation_batches(self, data: Source) -> Iterator[Data]:
        batches = Batches.of(data)
        if batches is None:
            return Data.of(data, self.replicas).evaluation_batches()
        return batches.data(self.replicas)

    def set_mode(self, training: bool) -> None:
        """Switch the network and the loss to training or evaluation."""
        self.network.train(training)
        self.loss.train(training)

    def new_results(self) -> Results:
        """No results yet of this loss and measure."""
        return Results(self.replicas, self.loss.reduction, self.measure)
