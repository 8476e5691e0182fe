"""The training of a network, or of many replicas of it at once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Generator, Tensor

from framework.data import Data, Examples, Targets, joined
from framework.early_stopping import EarlyStopping
from framework.errors import NotFiniteError, at_least_one, shape_of
from framework.initialisers import Generators, as_list
from framework.listeners import Listener
from framework.losses import Loss
from framework.metrics import Measure
from framework.module import Module, Output
from framework.optimizers import Optimizer
from framework.schedules import Constant, Schedule

Row = dict[str, float]


class Trainer(Generic[Output]):
    """Fits a network to data by mini-batches, and keeps its history.

    Args:
        network: the network to train.
        loss: a loss of the network's outputs.
        optimizer: an optimiser of the network's parameters; its rate is read once, here.
        generators: of the order of the mini-batches, one for each replica.
        batch_size: rows of a step; the last step of an epoch may have fewer.
        schedule: of the learning rate; constant by default.
        measure: computes the error rates of an epoch's predictions, see `framework.metrics`.
        listeners: called after each epoch, see `framework.listeners`.

    Attributes:
        epochs: the number of epochs done.
        history: for each replica a row for each epoch, with "epoch", "learning_rate", "train/loss"
            and "train/error", both over the epoch's steps, and the same for validation data. It
            ends when the replica fails, or when early stopping ends its training.
        failures: the epoch and the loss of each replica whose loss or weights were not finite; the
            loss is nan if only the weights were not. Other replicas are not affected.
        ended: the replicas whose history has ended. Their weights are still updated with the
            others', until early stopping restores the best ones.

    Raises:
        ValueError: if the parameters are not the optimiser's, or there are not as many replicas
            of them as generators. `fit` checks this as well.
    """

    def __init__(
        self,
        network: Module[Output],
        loss: Loss[Output],
        optimizer: Optimizer,
        generators: Generators,
        *,
        batch_size: int = 100,
        schedule: Schedule | None = None,
        measure: Measure | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.generators = as_list(generators)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.schedule = schedule or Constant()
        self.measure: Measure = measure or (lambda prediction, target: {})
        self.listeners = listeners
        self.replicas = len(self.generators)
        self._check_parameters()
        self.start_rate = optimizer.lr
        self.epochs = 0
        self.history: list[list[Row]] = [[] for _ in range(self.replicas)]
        self.failures: dict[int, tuple[int, float]] = {}
        self.ended: set[int] = set()

    def fit(
        self,
        train: Examples,
        epochs: int,
        *,
        validation: Examples | None = None,
        early_stopping: EarlyStopping | None = None,
        checkpoint: str | Path | None = None,
    ) -> list[list[Row]]:
        """Train until `epochs` epochs are done, and return the history.

        Epochs of earlier calls and of a loaded checkpoint count. `train` and `validation` are pairs
        (inputs, targets), see `Data.of`. After each epoch, the validation data are evaluated, and
        the state is saved to the file `checkpoint`.

        Raises:
            NotFiniteError: if every replica has failed.
            ValueError: if an earlier call has ended the training of every replica.
        """
        at_least_one("epochs", epochs)
        self._check_parameters()
        if len(self.ended) == self.replicas:
            raise ValueError("every replica has ended in an earlier fit, accepted is a new trainer")
        if early_stopping is not None and not self.epochs:
            early_stopping.start()
        train_data = Data.of(train, self.replicas)
        try:
            with torch.inference_mode():  # autograd cannot record anything
                while self.epochs < epochs and len(self.ended) < self.replicas:
                    rows = self._train_epoch(train_data, epochs)
                    if validation is not None:
                        for row, metrics in zip(rows, self.evaluate(validation)):
                            row |= _prefixed("validation", metrics)
                    self._record(rows, early_stopping)
                    if checkpoint is not None:
                        self.save(checkpoint, early_stopping)
                if early_stopping is not None:
                    early_stopping.restore(self.network.state())
                    if checkpoint is not None:
                        self.save(checkpoint, early_stopping)
        finally:
            for listener in self.listeners:
                listener.end()
        if len(self.failures) == self.replicas:
            raise NotFiniteError(self.failures)
        return self.history

    def step(self, inputs: Tensor, targets: Targets) -> tuple[Output, Tensor]:
        """Make one step; return the predictions, and the losses (replicas,), from before it."""
        if not (self.network.training and self.loss.training):
            self._set_mode(True)
        self.optimizer.zero_grad()
        prediction = self.network.forward(inputs)
        loss = self.loss.forward(prediction, targets)
        self.network.backward(self.loss.backward(), input_gradient=False)
        self.optimizer.step()
        return prediction, loss

    def evaluate(self, data: Examples) -> list[Row]:
        """Compute the loss and the error rates of each replica in evaluation mode.

        `data` is a pair (inputs, targets), see `Data.of`.
        """
        batches = list(Data.of(data, self.replicas).evaluation_batches())
        predictions = self._predictions(batches)
        with torch.no_grad():
            losses = [
                self.loss.forward(prediction, batch.targets)
                for prediction, batch in zip(predictions, batches)
            ]
            return self._metrics(predictions, batches, losses)

    def predict(self, inputs: Tensor) -> Output:
        """Compute the network's outputs, (replicas, n, ...), in evaluation mode.

        Inputs are (replicas, n, ...), or (n, ...) for all replicas. The first axis counts replicas
        if it is as long as their number and there are at least three axes.
        """
        have_replicas = len(inputs) == self.replicas and inputs.dim() > 2
        targets = torch.zeros(inputs.shape[:2] if have_replicas else len(inputs))
        batches = Data.of((inputs, targets), self.replicas).evaluation_batches()
        predictions: Output = joined(self._predictions(list(batches)))
        return predictions

    def save(self, path: str | Path, early_stopping: EarlyStopping | None = None) -> None:
        """Save everything that the training depends on; the file is written whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": [generator.get_state() for generator in self._all_generators()],
            "epochs": self.epochs,
            "start_rate": self.start_rate,
            "history": self.history,
            "failures": self.failures,
            "ended": sorted(self.ended),
            "early_stopping": None if early_stopping is None else early_stopping.state_dict(),
        }
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: str | Path, early_stopping: EarlyStopping | None = None) -> None:
        """Restore a saved state, from which `fit` continues bit for bit.

        Raises:
            KeyError, ValueError: if the state does not fit this trainer, or was saved with early
                stopping and none is given, or the reverse. Nothing is changed then.
        """
        state = torch.load(path, weights_only=True)
        self._check_checkpoint(path, state, early_stopping)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for generator, generator_state in zip(self._all_generators(), state["generators"]):
            generator.set_state(generator_state)
        self.epochs, self.start_rate = state["epochs"], state["start_rate"]
        self.history, self.failures = state["history"], state["failures"]
        self.ended = set(state["ended"])
        if early_stopping is not None:
            early_stopping.load_state_dict(state["early_stopping"])

    def _check_checkpoint(
        self, path: str | Path, state: Any, early_stopping: EarlyStopping | None
    ) -> None:
        if not isinstance(state, dict) or "generators" not in state:
            raise ValueError(f"{path} is not a checkpoint, accepted is a file that a trainer saved")
        if (state["early_stopping"] is None) != (early_stopping is None):
            saved, accepted = ("with", "without") if early_stopping is None else ("without", "with")
            raise ValueError(
                f"{path} was saved {saved} early stopping, accepted is a file {accepted} it"
            )
        self.network.check_state(state["network"])
        self.optimizer.check_state(state["optimizer"])
        saved_generators, generators = len(state["generators"]), len(self._all_generators())
        if saved_generators != generators:
            raise ValueError(f"{path} has {saved_generators} generators, accepted are {generators}")

    def _check_parameters(self) -> None:
        for name, parameter in self.network.named_parameters():
            if len(parameter.data) != self.replicas:
                raise ValueError(
                    f"{name} is {shape_of(parameter.data)}, accepted are {self.replicas} replicas, "
                    "one for each generator"
                )
            if not self.optimizer.has(parameter):
                raise ValueError(
                    f"the optimiser does not have {name}, accepted is an optimiser of the "
                    "network's parameters, made after they were replaced"
                )

    def _train_epoch(self, train: Data, epochs: int) -> list[Row]:
        """Make the steps of an epoch; return each replica's row of the history."""
        self._set_mode(True)
        orders = [torch.randperm(train.rows, generator=generator) for generator in self.generators]
        batches = list(train.batches(self.batch_size, torch.stack(orders)))
        predictions, losses = [], []
        for number, batch in enumerate(batches):
            self.optimizer.lr = self._rate(number, len(batches), epochs)
            prediction, loss = self.step(*batch)
            predictions.append(prediction)
            losses.append(loss)
        start: Row = {"epoch": self.epochs, "learning_rate": self._rate(0, len(batches), epochs)}
        metrics = self._metrics(predictions, batches, losses)
        return [start | _prefixed("train", values) for values in metrics]

    def _rate(self, step: int, steps: int, epochs: int) -> float:
        """The learning rate of one of the `steps` steps of this epoch."""
        if self.schedule.interval == "epoch":
            return self.schedule.rate(self.start_rate, self.epochs, epochs)
        time = self.epochs * steps + step
        return self.schedule.rate(self.start_rate, time, epochs * steps, steps)

    def _predictions(self, batches: Sequence[Data]) -> list[Output]:
        self._set_mode(False)
        with torch.no_grad():
            return [self.network.forward(batch.inputs) for batch in batches]

    def _metrics(
        self, predictions: list[Output], batches: list[Data], losses: list[Tensor]
    ) -> list[Row]:
        """For each replica, the loss over all rows and what `measure` returns."""
        rows = torch.tensor([batch.rows for batch in batches], dtype=torch.float64)
        sums = torch.stack(losses, 1).double()  # (replicas, batches)
        if self.loss.reduction == "mean":
            sums = sums * rows
        errors = self.measure(joined(predictions), joined([batch.targets for batch in batches]))
        metrics = {"loss": sums.sum(1) / rows.sum()} | errors
        values = {name: values.tolist() for name, values in metrics.items()}
        return [
            {name: values[name][replica] for name in metrics} for replica in range(self.replicas)
        ]

    def _record(self, rows: list[Row], early_stopping: EarlyStopping | None) -> None:
        """Append the rows to the history, end replicas, and call the listeners."""
        finite = self._finite()
        training = [replica for replica in range(self.replicas) if replica not in self.ended]
        for replica in training:
            row = rows[replica]
            self.history[replica].append(row)
            loss = row["train/loss"]
            if not (math.isfinite(loss) and finite[replica]):
                self.failures[replica] = (self.epochs, math.nan if math.isfinite(loss) else loss)
                self.ended.add(replica)
            elif early_stopping and early_stopping.ends(replica, row, self.network.state()):
                self.ended.add(replica)
        self.epochs += 1
        for replica in training:
            for listener in self.listeners:
                listener.epoch(replica, rows[replica])

    def _finite(self) -> list[bool]:
        """Whether all weights of each replica are finite; no loss shows the last step's effect."""
        finite = [
            parameter.data.flatten(1).isfinite().all(1) for parameter in self.network.parameters()
        ]
        return torch.stack(finite).all(0).tolist()

    def _set_mode(self, training: bool) -> None:
        self.network.train(training)
        self.loss.train(training)

    def _all_generators(self) -> list[Generator]:
        return self.generators + self.network.all_generators()


def _prefixed(split: str, metrics: Mapping[str, float]) -> Row:
    return {f"{split}/{name}": value for name, value in metrics.items()}
