"""Steps and epochs of a training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from framework.data import Data, Targets
from framework.errors import at_least_one, instance
from framework.evaluator import Evaluator
from framework.initialisers import Generators, as_list
from framework.losses import Loss
from framework.metrics import Measure
from framework.module import Module, Output
from framework.optimizer import Optimizer
from framework.preconditions import check_parameters
from framework.results import Row, prefixed
from framework.schedules import Constant, Schedule


class Learner(Evaluator[Output]):
    """Makes steps and epochs; the base of `Trainer`, which describes the arguments."""

    def __init__(
        self,
        network: Module[Output],
        loss: Loss[Output],
        optimizer: Optimizer,
        generators: Generators,
        *,
        batch_size: int,
        drop_last: bool,
        schedule: Schedule | None,
        measure: Measure | None,
    ) -> None:
        self.generators = as_list(generators)
        super().__init__(network, loss, len(self.generators), measure)
        self.optimizer = instance("optimizer", optimizer, Optimizer)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.drop_last = instance("drop_last", drop_last, bool)
        self.schedule = instance("schedule", schedule or Constant(), Schedule)
        check_parameters(network, self.optimizer, self.replicas)
        self.start_rate = optimizer.lr

    def step(self, inputs: Tensor, targets: Targets) -> tuple[Output, Tensor]:
        """Make one step; return the predictions, and the losses (replicas,), from before it.

        An error changes no parameter, and another step may follow.
        """
        if not (self.network.training and self.loss.training):
            self.set_mode(training=True)
        self.optimizer.zero_grad()
        try:
            prediction = self.network.forward(inputs)
            loss = self.loss.forward(prediction, targets)
            self.network.backward(self.loss.backward(), input_gradient=False)
        except BaseException:
            self.set_mode(training=True)  # discards what the layers have kept
            raise
        self.optimizer.step()
        return prediction, loss

    def train_epoch(self, train: Data, epoch: int, epochs: int) -> list[Row]:
        """Make the steps of an epoch; return each replica's row of the history.

        `epoch` is its number, from 0, and `epochs` the length of the training.
        """
        self.set_mode(training=True)
        results = self.new_results()
        orders = [torch.randperm(train.rows, generator=generator) for generator in self.generators]
        order = torch.stack(orders)[:, : self.rows_used(train)]
        steps = math.ceil(order.shape[1] / self.batch_size)
        rate = self.schedule.rates(self.start_rate, epoch, epochs, steps)
        for number, batch in enumerate(train.batches(self.batch_size, order)):
            self.optimizer.lr = rate(number)
            prediction, loss = self.step(*batch)
            results.add(prediction, batch.targets, loss)
        start: Row = {"epoch": epoch, "learning_rate": rate(0)}
        return [start | prefixed("train", metrics) for metrics in results.rows()]

    def rows_used(self, train: Data) -> int:
        """The number of rows of an epoch's batches."""
        rows = train.rows - train.rows % self.batch_size if self.drop_last else train.rows
        if not rows:
            accepted = f"at most {train.rows}, the number of rows, with drop_last"
            raise ValueError(f"batch_size is {self.batch_size}, accepted is {accepted}")
        return rows
