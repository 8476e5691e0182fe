"""The training of a network, or of many replicas of it at once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.data import Data, joined
from framework.early_stopping import EarlyStopping
from framework.errors import NotFiniteError, at_least_one, shape_of
from framework.initialisers import Generators, as_list
from framework.listeners import Listener
from framework.metrics import Measure
from framework.module import Module
from framework.optimizers import Optimizer
from framework.schedules import Constant, Schedule

Row = dict[str, float]


class Trainer:
    """Fits a network to data by mini-batches, and keeps its history.

    Args:
        network, loss, optimizer: of one another; the optimiser has the network's parameters.
        generators: of the order of the mini-batches, one a replica.
        batch_size: rows a step; the last of an epoch may have fewer.
        schedule: of the learning rate.
        measure: error rates of an epoch's predictions, see `framework.metrics`.
        listeners: hear of each epoch, see `framework.listeners`.

    `history` has for each replica a row an epoch: "epoch", "learning_rate", "train/loss" and "train/error" (of the epoch's steps, as
    they were made), and the same of the validation data. `failures` has for each replica whose loss, or whose weights, were not finite
    the epoch and the loss (nan where the weights alone were not). It harms no other. The history of such a replica, and of one that
    early stopping has ended, goes no further; its weights move on with the others until the best are restored.

    The optimiser's rate is read here. Here and in `fit`: ValueError unless the optimiser has the network's parameters, and all of them
    as many replicas as there are generators.
    """

    def __init__(
        self,
        network: Module,
        loss: Module,
        optimizer: Optimizer,
        generators: Generators,
        *,
        batch_size: int = 100,
        schedule: Schedule | None = None,
        measure: Measure | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.network, self.loss, self.optimizer, self.generators = (
            network,
            loss,
            optimizer,
            as_list(generators),
        )
        self.batch_size, self.schedule, self.listeners = (
            at_least_one("batch_size", batch_size),
            schedule or Constant(),
            listeners,
        )
        self.measure: Measure = measure or (lambda prediction, target: {})
        self.replicas = len(self.generators)
        self._check_parameters()
        self.start_rate = optimizer.lr
        self.epochs = 0  # done
        self.history: list[list[Row]] = [[] for _ in range(self.replicas)]
        self.failures: dict[int, tuple[int, float]] = {}
        self.ended: set[int] = set()

    def fit(
        self,
        train: Any,
        epochs: int,
        *,
        validation: Any = None,
        early_stopping: EarlyStopping | None = None,
        checkpoint: str | Path | None = None,
    ) -> list[list[Row]]:
        """Train until so many epochs are done in all; earlier ones, and those of a loaded checkpoint, count. Returns the history.

        `train` and `validation` are pairs (inputs, targets), see `Data.of`. With `checkpoint` the state is saved there after each
        epoch. Raises NotFiniteError when every replica has failed, and ValueError where early stopping has ended all of them before.
        """
        at_least_one("epochs", epochs)
        self._check_parameters()
        if len(self.ended) == self.replicas:
            raise ValueError("every replica has ended in an earlier fit, accepted is a new trainer")
        if early_stopping is not None and not self.epochs:
            early_stopping.start()
        train = Data.of(train, self.replicas)
        validation = None if validation is None else Data.of(validation, self.replicas)
        try:
            with torch.inference_mode():  # without even the possibility of autograd
                while self.epochs < epochs and len(self.ended) < self.replicas:
                    rows = self._epoch(train, epochs)
                    if validation is not None:
                        rows = [
                            row | _prefixed("validation", each)
                            for row, each in zip(rows, self.evaluate(validation))
                        ]
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

    def step(self, inputs: Tensor, targets: Any) -> tuple[Any, Tensor]:
        """One step on a mini-batch; returns the predictions and the loss (replicas,) before it."""
        if not (self.network.training and self.loss.training):
            self._set_mode(True)
        self.optimizer.zero_grad()
        prediction = self.network.forward(inputs)
        loss = self.loss.forward(prediction, targets)
        self.network.backward(self.loss.backward(), input_gradient=False)
        self.optimizer.step()
        return prediction, loss

    def evaluate(self, data: Any) -> list[Row]:
        """Loss and error rates of each replica; nothing is trained."""
        with torch.no_grad():
            batches = list(Data.of(data, self.replicas).evaluation_batches())
            self._set_mode(False)
            predictions = [self.network.forward(batch.inputs) for batch in batches]
            losses = [
                self.loss.forward(prediction, batch.targets)
                for prediction, batch in zip(predictions, batches)
            ]
            return self._measured(predictions, batches, losses)

    def predict(self, inputs: Tensor) -> Any:
        """The network's outputs for inputs (replicas, n, ...), or (n, ...) for all replicas: (replicas, n, ...).

        The first axis is the replicas' where it is as long as they are many, and two others follow.
        """
        rows = torch.zeros(
            inputs.shape[:2] if len(inputs) == self.replicas and inputs.dim() > 2 else len(inputs)
        )
        with torch.no_grad():
            self._set_mode(False)
            return joined(
                [
                    self.network.forward(batch.inputs)
                    for batch in Data.of((inputs, rows), self.replicas).evaluation_batches()
                ]
            )

    def save(self, path: str | Path, early_stopping: EarlyStopping | None = None) -> None:
        """Everything that the training depends on, to a file that is whole or not there: weights, the optimiser's state, generators,
        history.
        """
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
        torch.save(state, path.with_name(path.name + ".part"))
        os.replace(path.with_name(path.name + ".part"), path)

    def load(self, path: str | Path, early_stopping: EarlyStopping | None = None) -> None:
        """Goes back to a saved state; `fit` goes on from it, bit for bit.

        KeyError or ValueError, with nothing changed, for that of another training, or without the early stopping that it was saved with.
        """
        state = torch.load(path, weights_only=True)
        if not isinstance(state, dict) or "generators" not in state:
            raise ValueError(f"{path} is no checkpoint of a trainer")
        if (state["early_stopping"] is None) != (early_stopping is None):
            raise ValueError(
                f"{path} was saved {'without' if early_stopping else 'with'} early stopping, accepted is the same here"
            )
        self.network.check_state(state["network"])
        self.optimizer.check_state(state["optimizer"])
        if len(state["generators"]) != len(self._all_generators()):
            raise ValueError(
                f"{path} has {len(state['generators'])} generators, accepted are {len(self._all_generators())} as here"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for generator, each in zip(self._all_generators(), state["generators"]):
            generator.set_state(each)
        self.epochs, self.start_rate, self.history = (
            state["epochs"],
            state["start_rate"],
            state["history"],
        )
        self.failures, self.ended = state["failures"], set(state["ended"])
        if early_stopping is not None:
            early_stopping.load_state_dict(state["early_stopping"])

    def _check_parameters(self) -> None:
        for name, parameter in self.network.named_parameters():
            if len(parameter.data) != self.replicas:
                raise ValueError(
                    f"{name} is {shape_of(parameter.data)}, accepted are {self.replicas} replicas, as there are generators"
                )
            if parameter.owner is not self.optimizer:
                raise ValueError(
                    f"the optimiser does not have {name}, accepted is one that was made for the parameters of this network"
                )

    def _epoch(self, train: Data, epochs: int) -> list[Row]:
        """One epoch of training; each replica's row."""
        self._set_mode(True)
        steps = math.ceil(train.rows / self.batch_size)
        order = torch.stack(
            [torch.randperm(train.rows, generator=generator) for generator in self.generators]
        )
        predictions, losses, batches = [], [], list(train.batches(self.batch_size, order))
        first_rate = self._rate(0, steps, epochs)
        for number, batch in enumerate(batches):
            self.optimizer.lr = self._rate(number, steps, epochs)
            prediction, loss = self.step(*batch)
            predictions.append(prediction)
            losses.append(loss)
        rows = self._measured(predictions, batches, losses)
        return [
            {"epoch": self.epochs, "learning_rate": first_rate} | _prefixed("train", row)
            for row in rows
        ]

    def _rate(self, number: int, steps: int, epochs: int) -> float:
        """Of a step of this epoch."""
        if self.schedule.interval == "epoch":
            return self.schedule.rate(self.start_rate, self.epochs, epochs)
        return self.schedule.rate(
            self.start_rate, self.epochs * steps + number, epochs * steps, steps
        )

    def _measured(
        self, predictions: list[Any], batches: list[Data], losses: list[Tensor]
    ) -> list[Row]:
        """For each replica the loss a row, and what `measure` says."""
        weights = torch.tensor([batch.rows for batch in batches], dtype=torch.float64)
        values = torch.stack(losses, 1).double()  # (replicas, batches)
        total = (
            values if getattr(self.loss, "reduction", "mean") == "sum" else values * weights
        ).sum(1)
        errors = self.measure(joined(predictions), joined([batch.targets for batch in batches]))
        columns = {"loss": total / weights.sum(), **errors}
        return [
            dict(zip(columns, row))
            for row in zip(*(column.tolist() for column in columns.values()))
        ]

    def _record(self, rows: list[Row], early_stopping: EarlyStopping | None) -> None:
        going, finite = (
            [replica for replica in range(self.replicas) if replica not in self.ended],
            self._finite(),
        )
        for replica in going:
            row = rows[replica]
            self.history[replica].append(row)
            if not (math.isfinite(row["train/loss"]) and finite[replica]):
                self.failures[replica] = (
                    self.epochs,
                    math.nan if math.isfinite(row["train/loss"]) else row["train/loss"],
                )
                self.ended.add(replica)
            elif early_stopping is not None and early_stopping.ends(
                replica, row, self.network.state()
            ):
                self.ended.add(replica)
        self.epochs += 1
        for replica in going:
            for listener in self.listeners:
                listener.epoch(replica, rows[replica])

    def _finite(self) -> list[bool]:
        """Whether all weights of each replica are finite: the epoch's last step is not in its loss."""
        return (
            torch.stack(
                [
                    parameter.data.flatten(1).isfinite().all(1)
                    for parameter in self.network.parameters()
                ]
            )
            .all(0)
            .tolist()
        )

    def _set_mode(self, training: bool) -> None:
        self.network.train(training)
        self.loss.train(training)

    def _all_generators(self) -> list[torch.Generator]:
        layers = [
            generator
            for _, module in self.network.modules()
            for generator in getattr(module, "generators", [])
        ]
        return [*self.generators, *layers]


def _prefixed(split: str, metrics: Mapping[str, float]) -> Row:
    return {f"{split}/{name}": value for name, value in metrics.items()}
