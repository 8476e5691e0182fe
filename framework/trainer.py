"""The training of a network, or of many replicas of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from framework.batches import Batches
from framework.checkpoint import Checkpoint, GeneratorStates, Stateful, numbered
from framework.clipping import Clip
from framework.data import Data
from framework.early_stopping import EarlyStopping
from framework.errors import NotFiniteError, instance
from framework.evaluator import Source
from framework.initialisers import Generators
from framework.learner import Learner
from framework.listeners import Listener
from framework.losses import Loss
from framework.metrics import Measure
from framework.module import Module, Output
from framework.optimizer import Optimizer
from framework.preconditions import check_epochs, check_parameters, check_repeats, check_single_row
from framework.record import Record
from framework.results import Row, prefixed
from framework.schedules import Schedule


class Trainer(Learner[Output]):
    """Fits a network to data by mini-batches, and keeps its history.

    Args:
        network: the network to train.
        loss: a loss of the network's outputs.
        optimizer: an optimiser of the network's parameters. `fit` begins with its rate, which the
            schedule changes, and restores it; with groups of parameters, each with its own.
        generators: of the order of the mini-batches, one for each replica.
        batch_size: rows of a step; the last step of an epoch may have fewer.
        drop_last: leave out the rows of a last step with fewer.
        clip: limits each replica's gradients before a step, see `framework.clipping`.
        schedule: of the learning rate; constant by default.
        measure: computes the error rates of an epoch's predictions, see `framework.metrics`.
        listeners: called after each epoch, see `framework.listeners`.

    Attributes:
        epochs: the number of epochs done.
        history: for each replica a row for each epoch, with "epoch", "learning_rate" (of the first
            group of parameters), "train/loss" and "train/error", both over the epoch's steps, and
            the same for validation data. It ends when the replica fails, or when early stopping
            ends its training.
        failures: the epoch and the loss of each replica whose loss or weights were not finite; the
            loss is nan if only the weights were not. Other replicas are not affected.
        ended: the replicas whose history has ended. During `fit` their weights are still updated
            with the others'; at its end they get their weights of that time, or the best ones.

    Raises:
        ValueError: if the parameters that learn are not the optimiser's, or there are not as many
            replicas of them as generators. `fit` checks this as well.
    """

    def __init__(
        self,
        network: Module[Output],
        loss: Loss[Output],
        optimizer: Optimizer,
        generators: Generators,
        *,
        batch_size: int = 100,
        drop_last: bool = False,
        schedule: Schedule | None = None,
        measure: Measure | None = None,
        clip: Clip | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        super().__init__(
            network,
            loss,
            optimizer,
            generators,
            batch_size=batch_size,
            drop_last=drop_last,
            schedule=schedule,
            measure=measure,
            clip=clip,
        )
        self.listeners = [instance("a listener", listener, Listener) for listener in listeners]
        self.record = Record(self.replicas)

    @property
    def epochs(self) -> int:
        return self.record.epochs

    @property
    def history(self) -> list[list[Row]]:
        return self.record.history

    @property
    def failures(self) -> dict[int, tuple[int, float]]:
        return self.record.failures

    @property
    def ended(self) -> set[int]:
        return self.record.ended

    def fit(
        self,
        train: Source,
        epochs: int,
        *,
        validation: Source | None = None,
        early_stopping: EarlyStopping | None = None,
        checkpoint: str | Path | None = None,
    ) -> list[list[Row]]:
        """Train until `epochs` epochs are done, and return the history.

        Epochs of earlier calls and of a loaded checkpoint count. `train` and `validation` are pairs
        (inputs, targets), see `Data.of`, or iterables of batches, see `Batches`, to whose sizes and
        order `batch_size`, `drop_last` and `generators` do not apply. After each epoch, the
        validation data are evaluated, and the state is saved to the file `checkpoint`.

        With early stopping, each replica gets the weights of its best epoch at the end. A later
        call goes on from the weights of the last epoch, so that fit(5) and fit(8) give the bits of
        fit(8) alone, unless the schedule depends on the number of epochs. Replicas that have ended
        keep their weights. An `early_stopping` of another training begins anew.

        Raises:
            NotFiniteError: if every replica has failed.
            ValueError: if nothing is to be trained: the epochs are done, or an earlier call has
                ended the training of every replica.
        """
        check_epochs(epochs, self.record)
        check_parameters(self.network, self.optimizer, self.replicas)
        for data in (train, validation):
            check_repeats(data, epochs - self.epochs)
        train_data = Batches.of(train) or self._data_in_memory(train)
        self.start_rates = self.rates
        with torch.inference_mode():  # autograd cannot record anything
            self.record.go_on(early_stopping, self.network)
            try:
                while self.epochs < epochs and self.record.training:
                    self._fit_epoch(train_data, epochs, validation, early_stopping)
                    if checkpoint is not None:
                        self.save(checkpoint, early_stopping)
            finally:
                self.rates = self.start_rates
                self.record.restore_ended(self.network)
                for listener in self.listeners:
                    listener.end()
            if early_stopping is not None:
                self.record.restore_best(early_stopping, self.network)
            if checkpoint is not None:
                self.save(checkpoint, early_stopping)
        if len(self.failures) == self.replicas:
            raise NotFiniteError(self.failures)
        return self.history

    def save(self, path: str | Path, early_stopping: EarlyStopping | None = None) -> None:
        """Save everything that the training depends on; the file is written whole or not at all."""
        self._checkpoint(early_stopping).save(path)

    def load(self, path: str | Path, early_stopping: EarlyStopping | None = None) -> None:
        """Restore a saved state, from which `fit` continues bit for bit.

        Raises:
            KeyError, ValueError: if the file was saved with another network, optimiser, schedule,
                loss, batch size or early stopping, or other settings of these. Nothing is changed
                then.
        """
        self._checkpoint(early_stopping).load(path)
        if early_stopping is not None:
            early_stopping.history = self.history

    def _checkpoint(self, early_stopping: EarlyStopping | None) -> Checkpoint:
        settings = {
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            **numbered("learning_rate", self.start_rates),
            **numbered("optimizer", self.optimizer.groups),
            "clip": self.clip,
            "schedule": self.schedule,
            "loss": self.loss,
            "early_stopping": early_stopping,
        }
        parts: dict[str, Stateful | None] = {
            "network": self.network,
            "optimizer": self.optimizer,
            "generators": GeneratorStates(self.generators + self.network.all_generators()),
            "record": self.record,
            "early_stopping": early_stopping,
        }
        return Checkpoint(settings, parts)

    def _data_in_memory(self, train: Source) -> Data:
        """The training data, whose targets and last batch are checked."""
        data = Data.of(train, self.replicas)
        self.loss.check_values(data.targets)
        check_single_row(self.network, data, self.batch_size, self.rows_used(data))
        return data

    def _fit_epoch(
        self,
        train: Data | Batches,
        epochs: int,
        validation: Source | None,
        early_stopping: EarlyStopping | None,
    ) -> None:
        """Train for an epoch, evaluate, record both and call the listeners."""
        rows = self.train_epoch(train, self.epochs, epochs)
        if validation is not None:
            for row, metrics in zip(rows, self.evaluate(validation)):
                row |= prefixed("validation", metrics)
        training = self.record.training
        self.record.add(rows, early_stopping, self.network)
        for replica in training:
            for listener in self.listeners:
                listener.epoch(replica, rows[replica])
