"""The training loop of one run and of an array of runs, as Lightning's hooks.

An array's tensors have a leading axis of members; everything here is written for both. Each run's
own state (weights of the loss, history, early stopping) is in its `RunRecord`, also in an array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor, nn

from digitpairs.checks import InvalidValueError
from digitpairs.data.batches import Epoch, minibatches
from digitpairs.data.pairs import PairSet
from digitpairs.losses import Weighting, loss_parts
from digitpairs.networks import Prediction
from digitpairs.networks.comparison import as_prediction
from digitpairs.networks.ensemble import Ensemble, base_network
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.training.averaging import ExponentialMovingAverage
from digitpairs.training.metrics import MetricAccumulator
from digitpairs.training.resumable import Resumable
from digitpairs.training.run_record import RunRecord
from digitpairs.training.stages import first_epochs, train_only
from digitpairs.training.temperature import TemperatureScaling
from digitpairs.training.views import AveragedViews

HELD_OUT = "none, unless data.validation=0.2 or data.folds=5 holds out pairs to fit temperatures on"


class ComparisonModule(Resumable):
    """Trains and evaluates the runs in `members` with one `network` and one `aux`.

    Both are stacked if there are several members. Optimisation is manual, since what Lightning
    sees as a batch may be an `Epoch` of many mini-batches.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        aux: Weighting,
        mean_and_std_shape: tuple[int, ...] = (),
        calibration: TemperatureScaling | None = None,
        views: AveragedViews | None = None,
    ) -> None:
        super().__init__()
        self.network, self.aux, self.calibration = network, aux, calibration
        self.views = views
        self.register_buffer("mean", torch.zeros(mean_and_std_shape))
        self.register_buffer("std", torch.ones(mean_and_std_shape))
        self._dropouts = dropout_layers(network)

    @property
    def members(self) -> Sequence[RunRecord]:
        """The runs."""
        raise NotImplementedError

    @property
    def _datamodule(self) -> Any:
        """The trainer's data module; None if it was given loaders."""
        return getattr(self.trainer, "datamodule", None)

    @property
    def watched(self) -> str:
        """The split measured after each epoch: "validation", or the data module's `watched`."""
        return getattr(self._datamodule, "watched", "validation")

    def forward(self, images: Tensor) -> Prediction:
        """Pixels (..., B, 2, 14, 14) in [0, 1] -> Prediction, averaged over views if there are any.

        Training computes with the network alone.
        """
        if self.views is None:
            return self._predicted(images)
        return self.views(self._predicted, images)

    def _predicted(self, images: Tensor) -> Prediction:
        return as_prediction(self.network(self._normalised(images)))

    def on_fit_start(self) -> None:
        if self.trainer.precision == "16-mixed":
            accepted = "a precision whose gradients need no scaling, such as bf16-mixed"
            raise InvalidValueError("precision", "16-mixed", accepted)
        self._last_images: tuple[Tensor, Tensor] | None = None  # of a set, and normalised
        smoothing = [member.label_smoothing for member in self.members]
        self._smoothing: Tensor | None = None
        if any(smoothing):
            self._smoothing = self.mean.new_tensor(smoothing).view(self.mean.shape)
        for member in self.members:
            member.start()
        self._ema = self._new_average()
        default = Weighting.start_step
        self._changing_by_step = [m for m in self.members if type(m.aux).start_step is not default]
        self.resume()

    def depends_on_epochs(self) -> bool:
        has_stages = any(member.two_stage is not None for member in self.members)
        return has_stages or any(member.schedule.depends_on_epochs for member in self.members)

    def fit_state(self) -> list[dict[str, Any]]:
        states = [member.run_state() for member in self.members]
        if self._ema is not None:
            for state, own in zip(states, self._ema.states()):
                state["ema"] = own
        return states

    def load_fit_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        for member, member_state in zip(self.members, state, strict=True):
            member.load_run_state(member_state)
        self._load_average([member_state.get("ema") for member_state in state])

    def on_train_start(self) -> None:
        if self.calibration is not None:
            self._held_out_loaders()

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        ensemble = self.network if isinstance(self.network, Ensemble) else None
        self._train_metrics = MetricAccumulator(None if ensemble is None else ensemble.average)
        share = self.members[0].two_stage
        if share is not None:
            first = first_epochs(share, self.trainer.max_epochs or 0)
            part = "digits" if self.current_epoch < first else "comparison"
            train_only(base_network(self.network), part)
        for member, rate in zip(self.members, self._start_rates()):
            member.start_epoch(self.current_epoch, rate)

    def training_step(self, batch: Any, batch_index: int) -> None:
        """Train on each mini-batch of an epoch, or on an ordinary batch.

        Lightning's wrapper of the optimiser counts the steps and its `manual_backward` calls
        hooks, which together take a tenth of a small network's step. Only the first step of a
        batch goes through the wrapper: with epochs as batches, `trainer.global_step` counts epochs.
        """
        if self._ema is None:
            self._train(batch)
            return
        with self._ema.training([member.ended for member in self.members]):
            self._train(batch)

    def _train(self, batch: Any) -> None:
        optimizer = self._optimizer()
        parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        size = self.network.size if isinstance(self.network, Ensemble) else 1
        streams = [member.dropout_stream for member in self.members for _ in range(size)]
        for number, (images, digits, target) in enumerate(self._normalised_minibatches(batch)):
            draw_masks(self._dropouts, target.shape[-1], streams)
            for member in self._changing_by_step:
                member.aux.start_step(member.aux_stream)
            prediction = as_prediction(self.network(images))
            parts = loss_parts(prediction, digits, target, self._smoothing)
            loss = self.aux(parts)
            for parameter in parameters:
                parameter.grad = None  # what `zero_grad` does, without its profiler hooks
            loss.backward(torch.ones_like(loss))  # members share no value: each gets its gradient
            self._end_step(optimizer.optimizer if number else optimizer)
            if self._ema is not None:
                self._ema.update()
            # Autocast keeps cast weights until its context ends, here after their update.
            torch.clear_autocast_cache()
            self._train_metrics.update(prediction, digits, target, parts, loss)

    def on_train_epoch_end(self) -> None:
        for member, metrics in zip(self.members, self._train_metrics.compute()):
            member.record("train", metrics)
        self._end_rates()
        for member in self.members:
            member.end_epoch()
        if all(member.ended for member in self.members):
            self.trainer.should_stop = True
        super().on_train_epoch_end()

    def on_train_end(self) -> None:
        """Restore the best weights, before Lightning moves the network off its device.

        Temperatures are fitted to the restored weights.
        """
        self._last_images = None
        if self.members[0].two_stage is not None:
            train_only(base_network(self.network), None)
        for member in self.members:
            member.early_stopping.restore(member.network)
        if self.calibration is not None:
            self._fit_temperatures()

    def on_validation_epoch_start(self) -> None:
        self._evaluation = MetricAccumulator()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        for images, digits, target in minibatches(batch):
            prediction = self(images)
            parts = loss_parts(prediction, digits, target)
            self._evaluation.update(prediction, digits, target, parts, self.aux(parts))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            for member, metrics in zip(self.members, self._evaluation.compute()):
                member.record(self.watched, metrics)

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        evaluation = self._evaluation
        results = zip(evaluation.compute(), evaluation.confusions(), evaluation.predictions())
        for member, (metrics, confusion, predictions) in zip(self.members, results):
            member.record_test(metrics, confusion, predictions)

    def _new_average(self) -> ExponentialMovingAverage | None:
        """The moving average of the weights, which starts from the present ones; None if off."""
        decays = [member.ema for member in self.members if member.ema is not None]
        if not decays:
            return None
        return ExponentialMovingAverage(self.network, decays, is_array=bool(self.mean.dim()))

    def _load_average(self, states: Sequence[Mapping[str, Any] | None]) -> None:
        """Raises InvalidValueError unless both fits, or neither, average the weights."""
        loaded = [state for state in states if state is not None]
        if self._ema is None and not loaded:
            return
        if self._ema is None or not loaded:
            accepted = "a decay" if loaded else "null"
            accepted += ", as in the fit that is resumed"
            raise InvalidValueError("ema", self.members[0].ema, accepted)
        self._ema.load_states(loaded)

    @torch.no_grad()
    def _fit_temperatures(self) -> None:
        """Fit each member's temperatures on its held-out pairs, which are evaluated once more."""
        precision, strategy = self.trainer.precision_plugin, self.trainer.strategy
        self.on_validation_epoch_start()
        with evaluating(self.network), precision.val_step_context():
            for batch, *_ in CombinedLoader(self._held_out_loaders(), "sequential"):
                self.validation_step(strategy.batch_to_device(precision.convert_input(batch)), 0)
        evaluation = self._evaluation
        for member, prediction, labels in zip(
            self.members, evaluation.predictions(), evaluation.labels()
        ):
            assert member.calibration is not None, "members of an array are calibrated alike"
            member.calibration.fit(prediction, *labels)

    def _held_out_loaders(self) -> Any:
        """The loaders of the held-out pairs. Raises InvalidValueError if there are none."""
        loaders = None
        if self.trainer.enable_validation:
            self.trainer.fit_loop.epoch_loop.val_loop.setup_data()  # else at the first validation
            loaders = self.trainer.val_dataloaders
        if not loaders or self.watched == "test":
            raise InvalidValueError("calibrate", "temperature", HELD_OUT)
        return loaders

    def _start_rates(self) -> Sequence[float]:
        """Set the epoch's learning rates, and return each member's first one."""
        raise NotImplementedError

    def _end_step(self, optimizer: torch.optim.Optimizer | LightningOptimizer) -> None:
        """Clip the gradients, step the optimiser, and step a schedule by step."""
        raise NotImplementedError

    def _end_rates(self) -> None:
        """Step a schedule by epoch."""

    def _normalised_minibatches(self, batch: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The normalised mini-batches of an epoch, or an ordinary batch.

        Without a transform of the pixels, all images of the set are normalised once and kept.
        """
        if isinstance(batch, Epoch) and batch.transform is None:
            pairs = self._normalised_set(cast(PairSet, batch.rows))
            for images, digits, target in batch._replace(rows=pairs).minibatches():
                yield images, digits, target
        else:
            for images, digits, target in minibatches(batch):
                yield self._normalised(images), digits, target

    def _normalised_set(self, pairs: PairSet) -> PairSet:
        if self._last_images is None or self._last_images[0] is not pairs.images:
            members = pairs.images.view(*self.mean.shape, -1, 1, *pairs.images.shape[1:])
            normalised = self._normalised(members).view_as(pairs.images)
            self._last_images = (pairs.images, normalised)
        return pairs._replace(images=self._last_images[1])

    def _normalised(self, images: Tensor) -> Tensor:
        shape = (*self.mean.shape, 1, 1, 1, 1)
        return (images - self.mean.view(shape)).div_(self.std.view(shape))


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards each of its modules is in its mode from before."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
