"""Steps and epochs of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from framework.batches import Batches
from framework.clipping import Clip
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
        clip: Clip | None,
    ) -> None:
        self.generators = as_list(generators)
        super().__init__(network, loss, len(self.generators), measure)
        self.optimizer = instance("optimizer", optimizer, Optimizer)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.drop_last = instance("drop_last", drop_last, bool)
        self.schedule = instance("schedule", schedule or Constant(), Schedule)
        self.clip = None if clip is None else instance("clip", clip, Clip)
        check_parameters(network, self.optimizer, self.replicas)
        self.start_rates = self.rates

    def step(self, inputs: Tensor, targets: Targets) -> tuple[Output, Tensor]:
        """Make one step; return the predictions, and the losses (replicas,), from before it.

        An error changes no parameter, and another step may follow.
        """
        if not (self.network.keeps and self.loss.keeps):
            self.set_mode(training=True)
        self.optimizer.zero_grad()
        try:
            prediction = self.network.forward(inputs)
            loss = self.loss.forward(prediction, targets)
            self.network.backward(self.loss.backward(), input_gradient=False)
        except BaseException:
            self.set_mode(training=True)  # discards what the layers have kept
            raise
        if self.clip is not None:
            self.clip(self.optimizer.parameters)
        self.optimizer.step()
        return prediction, loss

    @property
    def rates(self) -> list[float]:
        """The learning rates of the optimiser's groups of parameters."""
        return [group.lr for group in self.optimizer.groups]

    @rates.setter
    def rates(self, rates: Iterable[float]) -> None:
        for group, rate in zip(self.optimizer.groups, rates):
            group.lr = rate

    def train_epoch(self, train: Data | Batches, epoch: int, epochs: int) -> list[Row]:
        """Make the steps of an epoch; return each replica's row of the history.

        `epoch` is its number, from 0, and `epochs` the length of the training.
        """
        self.set_mode(training=True)
        results = self.new_results()
        batches = self._checked(train) if isinstance(train, Batches) else self._shuffled(train)
        steps = self._steps(train)
        rates = [self.schedule.rates(start, epoch, epochs, steps) for start in self.start_rates]
        groups = list(zip(self.optimizer.groups, rates))
        for number, batch in enumerate(batches):
            for group, rate in groups:
                group.lr = rate(number)
            prediction, loss = self.step(*batch)
            results.add(prediction, batch.targets, loss)
        start: Row = {"epoch": epoch, "learning_rate": rates[0](0)}
        return [start | prefixed("train", metrics) for metrics in results.rows()]

    def _shuffled(self, train: Data) -> Iterator[Data]:
        """Yield batches of the rows in each replica's new order."""
        orders = [torch.randperm(train.rows, generator=generator) for generator in self.generators]
        return train.batches(self.batch_size, torch.stack(orders)[:, : self.rows_used(train)])

    def _checked(self, train: Batches) -> Iterator[Data]:
        """Yield the batches of an iterable; ValueError for targets that the loss cannot take."""
        for batch in train.data(self.replicas):
            self.loss.check_values(batch.targets)
            yield batch

    def _steps(self, train: Data | Batches) -> int:
        """The number of steps of an epoch; of a schedule by epochs it may be unknown, and is 1."""
        if isinstance(train, Data):
            return math.ceil(self.rows_used(train) / self.batch_size)
        if train.steps is None and self.schedule.interval == "step":
            raise ValueError(
                f"the schedule is {self.schedule}, accepted is interval='epoch' for batches of a "
                f"{type(train.iterable).__name__}, which has no len()"
            )
        return train.steps or 1

    def rows_used(self, train: Data) -> int:
        """The number of rows of an epoch's batches."""
        rows = train.rows - train.rows % self.batch_size if self.drop_last else train.rows
        if not rows:
            accepted = f"at most {train.rows}, the number of rows, with drop_last"
            raise ValueError(f"batch_size is {self.batch_size}, accepted is {accepted}")
        return rows
