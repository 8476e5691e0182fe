"""The loop that one run and an array of runs have in common, as Lightning's hooks.

An array's tensors have the members' axis before those of one run; everything here is written for both. What belongs to a
run by itself (its weights of the loss, its history, its end) is kept by its `PairComparison`, in an array too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError
from digitpairs.data.batches import Epoch, minibatches
from digitpairs.data.pairs import PairSet
from digitpairs.losses import Weighting, loss_parts
from digitpairs.networks import Prediction
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.training.metrics import MetricAccumulator
from digitpairs.training.resumable import Resumable
from digitpairs.training.schedulers import Timing
from digitpairs.training.stages import first_epochs, train_only

if TYPE_CHECKING:
    from digitpairs.training.pair_comparison import PairComparison


class ComparisonModule(Resumable):
    """Trains and measures the runs of `members`, which share one `network` and one `aux` (stacked, if they are several).

    Optimisation is manual, since what Lightning sees as a batch may be an `Epoch` of many mini-batches.
    """

    members: Sequence[PairComparison]
    network: nn.Module
    aux: Weighting

    def __init__(
        self, network: nn.Module, aux: Weighting, mean_and_std_shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.aux = network, aux
        self.register_buffer("mean", torch.zeros(mean_and_std_shape))
        self.register_buffer("std", torch.ones(mean_and_std_shape))
        self._dropouts = dropout_layers(network)

    def forward(self, images: Tensor) -> Prediction:
        """Pixels (..., B, 2, 14, 14) in [0, 1] -> Prediction."""
        return self.network(self._normalised(images))

    def on_fit_start(self) -> None:
        if self.trainer.precision == "16-mixed":
            raise InvalidValueError(
                "precision",
                "16-mixed",
                "a precision whose gradients need no scaling, such as bf16-mixed",
            )
        self._last_set: tuple[Tensor | None, Tensor | None] = (
            None,
            None,
        )  # images, and the same normalised
        smoothing = [member.label_smoothing for member in self.members]
        self._smoothing = (
            self.mean.new_tensor(smoothing).view(self.mean.shape) if any(smoothing) else None
        )
        for member in self.members:
            member.start()
        self._stepping = [
            member
            for member in self.members
            if type(member.aux).start_step is not Weighting.start_step
        ]
        self.resume()

    def timing(self) -> Timing:
        """The fit's length; InvalidValueError when it has none."""
        if (self.trainer.max_epochs or 0) < 1:
            raise InvalidValueError(
                "max_epochs",
                self.trainer.max_epochs,
                "at least 1: learning-rate schedules are laid out in epochs",
            )
        batches = (
            self.trainer.estimated_stepping_batches // self.trainer.max_epochs
        )  # this sets the loaders up, too
        return Timing(
            self.trainer.max_epochs,
            getattr(self.trainer.train_dataloader, "steps_per_epoch", batches),
        )

    def depends_on_epochs(self) -> bool:
        return any(member.schedule.depends_on_epochs or member.two_stage for member in self.members)

    def fit_state(self) -> list[dict[str, Any]]:
        return [member.run_state() for member in self.members]

    def load_fit_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        for member, each in zip(self.members, state, strict=True):
            member.load_run_state(each)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._tally = MetricAccumulator()
        share = self.members[0].two_stage
        if share is not None:
            first = first_epochs(share, self.trainer.max_epochs)
            train_only(self.network, "digits" if self.current_epoch < first else "comparison")
        for member, rate in zip(self.members, self._start_rates()):
            member.start_epoch(self.current_epoch, rate)

    def training_step(self, batch: Any, batch_index: int) -> None:
        """Train on each mini-batch of an epoch, or on an ordinary batch.

        Lightning's wrapper of the optimiser counts the steps and its `manual_backward` calls hooks, which together take
        a tenth of a small network's step: one step an epoch goes through the wrapper, so that `trainer.global_step` counts
        epochs.
        """
        optimizer = self.optimizers()
        parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        streams = [member.dropout_stream for member in self.members]
        for number, (images, digits, target) in enumerate(self._normalised_minibatches(batch)):
            draw_masks(self._dropouts, target.shape[-1], streams)
            for member in self._stepping:
                member.aux.start_step(member.aux_stream)
            prediction = self.network(images)
            parts = loss_parts(prediction, digits, target, self._smoothing)
            loss = self.aux(parts)
            for parameter in parameters:
                parameter.grad = None  # what `zero_grad` does, without its profiler hooks
            loss.backward(
                torch.ones_like(loss)
            )  # an array's members have no value in common: each gets its own gradient
            self._end_step(optimizer.optimizer if number else optimizer)
            # Autocast keeps the weights that it casts until its context ends, which here outlives their update.
            torch.clear_autocast_cache()
            self._tally.add(prediction, digits, target, parts, loss)

    def on_train_epoch_end(self) -> None:
        for member, metrics in zip(self.members, self._tally.measure()):
            member.record("train", metrics)
        self._end_rates()
        for member in self.members:
            member.end_epoch()
        if all(member.ended for member in self.members):
            self.trainer.should_stop = True
        super().on_train_epoch_end()

    def on_train_end(
        self,
    ) -> None:  # not on_fit_end, which comes after the weights have left the device
        self._last_set = (None, None)
        if self.members[0].two_stage is not None:
            train_only(self.network, None)
        for member in self.members:
            member.early_stopping.restore(member.network)

    def on_validation_epoch_start(self) -> None:
        self._evaluation = MetricAccumulator()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        for images, digits, target in minibatches(batch):
            prediction = self(images)
            parts = loss_parts(prediction, digits, target)
            self._evaluation.add(prediction, digits, target, parts, self.aux(parts))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            for member, metrics in zip(self.members, self._evaluation.measure()):
                member.record(self.watched, metrics)

    @property
    def watched(self) -> str:
        """What is measured after each epoch: "validation", or "test" where the data module says so."""
        return getattr(self.trainer.datamodule, "watched", "validation")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        for member, metrics, confusion in zip(
            self.members, self._evaluation.measure(), self._evaluation.confusions()
        ):
            member.record_test(metrics, confusion)

    def _start_rates(self) -> Sequence[float]:
        """Called before each epoch; gives each member's learning rate."""
        raise NotImplementedError

    def _end_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradients, and moves the weights, and the rates that move by step."""
        raise NotImplementedError

    def _end_rates(self) -> None:
        """Called after each epoch: moves the rates that move by epoch."""

    def _normalised_minibatches(self, batch: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The mini-batches of an epoch, or an ordinary batch. Where nothing changes the pixels, all images of the set are
        normalised once, and kept.
        """
        if isinstance(batch, Epoch) and batch.transform is None:
            yield from batch._replace(rows=self._normalised_set(batch.rows)).minibatches()
        else:
            for images, *others in minibatches(batch):
                yield self._normalised(images), *others

    def _normalised_set(self, pairs: PairSet) -> PairSet:
        given, normalised = self._last_set
        if given is not pairs.images:
            images = pairs.images.view(
                *self.mean.shape, -1, 1, *pairs.images.shape[1:]
            )  # an array's members have as many each
            normalised = self._normalised(images).view_as(pairs.images)
            self._last_set = (pairs.images, normalised)
        return pairs._replace(images=normalised)

    def _normalised(self, images: Tensor) -> Tensor:
        shape = (*self.mean.shape, 1, 1, 1, 1)
        return (images - self.mean.view(shape)).div_(self.std.view(shape))
