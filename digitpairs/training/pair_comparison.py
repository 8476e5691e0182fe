"""PairComparison: one run, a comparison network under Lightning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from digitpairs.checks import InvalidValueError, choice, integer, number, positive
from digitpairs.data.batches import minibatches
from digitpairs.data.sources import SIDE
from digitpairs.losses import LambdaWeighting, Weighting, check_fits
from digitpairs.networks import JointNetwork, Prediction, SiameseNetwork
from digitpairs.networks.comparison import as_prediction, compares_posteriors
from digitpairs.networks.ensemble import MOST_NETWORKS, base_network
from digitpairs.networks.heads import CLASSES
from digitpairs.streams import check_seed
from digitpairs.targets import class_name, exception_message
from digitpairs.training.averaging import check_decay
from digitpairs.training.build import build, build_network
from digitpairs.training.early_stopping import EarlyStopping, build_early_stopping
from digitpairs.training.metrics import predicts_less_or_equal
from digitpairs.training.module import ComparisonModule
from digitpairs.training.optimizers import Adam
from digitpairs.training.run_record import RunRecord, prefixed
from digitpairs.training.schedulers import Constant, Schedule, as_schedule
from digitpairs.training.stages import check_two_stage
from digitpairs.training.temperature import METHODS, TemperatureScaling
from digitpairs.training.views import VIEWS, AveragedViews

_NETWORK = (
    f"a network maps pairs (B, 2, {SIDE}, {SIDE}) to comparison logits (B, 1) or (B, 2), or to a "
    f"Prediction of these and of digit logits (B, 2, {CLASSES})"
)
CLIP_ALGORITHMS: dict[str, Callable[[list[nn.Parameter], float], Any]] = {
    "norm": nn.utils.clip_grad_norm_,
    "value": nn.utils.clip_grad_value_,
}
_PARTS = ("network", "aux", "optimizer", "scheduler", "early_stopping")  # objects or configs


class PairComparison(RunRecord, ComparisonModule):
    """Trains and evaluates a network (B, 2, 14, 14) -> `Prediction` on pairs of digits.

    A network may also return the comparison's logits alone, (B, 1) or (B, 2).

    Each of `network`, `aux`, `optimizer`, `scheduler` is an object, or its config: a mapping with
    `_target_`, as in `conf/`. `PairComparison.load_from_checkpoint(path)` builds configs again;
    objects must be passed to it.

    Ordinary batches (images, digits, target) from any loader can replace this package's. Metrics
    are logged once an epoch under train/, validation/ and test/ (losses in nats, errors in per
    cent), and kept in `history`, a dict for each epoch, and `test_metrics`.

    Args:
        network: takes pixels in [0, 1], normalised here with the mean and standard deviation of
            the data module's training pairs.
        aux: the `Weighting` of the losses of the digits and of the comparison.
        optimizer: a recipe from `digitpairs.training.optimizers`, parameters -> optimiser.
        scheduler: a recipe from `digitpairs.training.schedulers`; None is a constant rate.
        early_stopping: an `EarlyStopping` or its settings; None trains for all epochs.
        two_stage: the share of the epochs in which all but the comparison part trains; in the
            rest the comparison part trains alone. None trains everything at once.
        label_smoothing: the share of each label, 0 to 1, that the training's losses spread evenly
            over all classes. Validation and test do not smooth labels.
        ensemble_size: the number of networks, from 1 to 100, each with initial weights and dropout
            masks of its own. They train on the same batches, each as it would alone; the loss is
            the mean of theirs. Validation, test and predictions average over them, see `Ensemble`.
        ema: decay of an exponential moving average of the weights, from 0 to below 1, see
            `ExponentialMovingAverage`. Between the training steps of two epochs, and after the
            fit, the network has the averaged weights. None is none.
        calibrate: "temperature" fits a temperature of the comparison's logits and one of the
            digits' on the held-out pairs, after training (see `TemperatureScaling`); "none" is
            none. `calibrated` applies them. Losses and errors are those of the logits before.
        tta: test-time augmentation: the number of further views of the images over which
            validation, test and predictions average, see `AveragedViews`. 0 is none.
        gradient_clip_val: bound of the gradient before each step, above 0; None is none.
        gradient_clip_algorithm: "norm" bounds the norm of the whole gradient, of all networks of
            an ensemble; "value" bounds each value.
        seed: of all random streams that have no seed of their own.
        weights_seed, dropout_seed, aux_seed: of the initial weights, the dropout masks, and random
            loss weights. A network object keeps its weights.

    Raises InvalidValueError for settings that do not fit, and DivergenceError at the end of an
    epoch, or of the test, whose loss is not finite.
    """

    def __init__(
        self,
        network: nn.Module | Mapping,
        aux: Weighting | Mapping | None = None,
        optimizer: Callable[..., Optimizer] | Mapping | None = None,
        scheduler: Schedule | Mapping | None = None,
        *,
        early_stopping: EarlyStopping | Mapping | None = None,
        two_stage: float | None = None,
        label_smoothing: float = 0.0,
        ensemble_size: int = 1,
        ema: float | None = None,
        calibrate: str = "none",
        tta: int = 0,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        seed: int = 0,
        weights_seed: int | None = None,
        dropout_seed: int | None = None,
        aux_seed: int | None = None,
    ) -> None:
        seed = check_seed("seed", seed)
        weights_seed = check_seed("weights_seed", weights_seed, seed)
        dropout_seed = check_seed("dropout_seed", dropout_seed, seed)
        aux_seed = check_seed("aux_seed", aux_seed, seed)
        hyperparameters = _hyperparameters(locals())
        weighting = LambdaWeighting(0.8) if aux is None else build(aux)
        integer("ensemble_size", ensemble_size, at_least=1, at_most=MOST_NETWORKS)
        super().__init__(build_network(network, weights_seed, ensemble_size), weighting)
        self.save_hyperparameters(hyperparameters, logger=False)
        self.dropout_seed, self.aux_seed = dropout_seed, aux_seed
        self.optimizer_recipe = Adam(lr=0.001) if optimizer is None else build(optimizer)
        self.schedule = Constant() if scheduler is None else as_schedule(build(scheduler))
        self.early_stopping = build_early_stopping(early_stopping)
        self.label_smoothing = number("label_smoothing", label_smoothing, at_most=1)
        self.ema = None if ema is None else check_decay("ema", ema)
        self.clip_value = _clip_value(gradient_clip_val)
        self.clip_algorithm = choice(
            "gradient_clip_algorithm", gradient_clip_algorithm, CLIP_ALGORITHMS
        )
        self.has_digits = _has_digits(self.network)
        check_fits(self.aux, self.has_digits)
        self._set_answers(choice("calibrate", calibrate, METHODS), tta)
        self.two_stage = self._check_two_stage(two_stage)
        self.clear()

    def _set_answers(self, calibrate: str, tta: int) -> None:
        """Set what turns the logits into answers."""
        from_digits = compares_posteriors(base_network(self.network))
        if calibrate == "temperature":
            names_digits = self.has_digits and self.aux.uses_digits
            self.calibration = TemperatureScaling(names_digits, from_digits)
        if integer("tta", tta, at_most=len(VIEWS)):
            self.views = AveragedViews(tta, from_digits)

    def _check_two_stage(self, two_stage: float | None) -> float | None:
        share = check_two_stage(two_stage, base_network(self.network), self.aux)
        if share is not None and self.early_stopping.patience is not None:
            accepted = "null with early stopping, which would watch both stages as one"
            raise InvalidValueError("two_stage", two_stage, accepted)
        if share is not None and self.ema is not None:
            accepted = "null with two_stage, whose second stage would average a part that is frozen"
            raise InvalidValueError("ema", self.ema, accepted)
        return share

    @property
    def members(self) -> Sequence[PairComparison]:
        return (self,)

    def calibrated(self, prediction: Prediction) -> Prediction:
        """The logits divided by the temperatures; without temperatures the logits as they are."""
        return prediction if self.calibration is None else self.calibration(prediction)

    def set_mean_and_std(self, mean: float, std: float) -> None:
        """Set the numbers that the images are normalised with."""
        self.mean.fill_(mean)
        self.std.fill_(std)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        groups: list[dict[str, Any]] = [{"params": list(self.network.parameters())}]
        learned = list(self.aux.parameters())
        if learned:  # a decay would pull the loss's weights to 1
            groups.append({"params": learned, "weight_decay": 0.0})
        optimizer = self.optimizer_recipe(groups)
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, self.timing())}

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if hasattr(self._datamodule, "mean_and_std"):
            self.set_mean_and_std(*self._datamodule.mean_and_std)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self._update_callback_metrics(self._row)
        for logger in self.loggers:
            logger.log_metrics(self._row, step=self.current_epoch)
        self._raise_failure()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._update_callback_metrics(self._row)
        if self.trainer.state.fn == TrainerFn.VALIDATING:  # not within a fit
            self.log_dict(prefixed(self.watched, self._evaluation.compute()[0]))

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._raise_failure()
        self.log_dict(self.test_metrics)  # Lightning returns them rounded to float32

    def predict_step(self, batch: Any, batch_index: int) -> dict[str, Tensor]:
        """Whether first <= second (B,), as 1 or 0, and, with digit logits, the digits (B, 2)."""
        answers = [_answers(self.calibrated(self(images))) for images, *_ in minibatches(batch)]
        return {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}

    def _start_rates(self) -> Sequence[float]:
        return [self._optimizer().param_groups[0]["lr"]]

    def _end_step(self, optimizer: Optimizer | LightningOptimizer) -> None:
        if self.clip_value is not None:
            parameters = [*self.network.parameters(), *self.aux.parameters()]
            CLIP_ALGORITHMS[self.clip_algorithm](parameters, self.clip_value)
        optimizer.step()
        if self.schedule.interval == "step":
            self._step_scheduler()

    def _end_rates(self) -> None:
        if self.schedule.interval == "epoch":
            self._step_scheduler()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


def _hyperparameters(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments that a checkpoint keeps: all but objects in place of configs."""
    return {
        name: value
        for name, value in arguments.items()
        if name not in ("self", "__class__")
        and (name not in _PARTS or value is None or isinstance(value, Mapping))
    }


def _clip_value(bound: float | None) -> float | None:
    return None if bound is None else positive("gradient_clip_val", bound)


def _answers(prediction: Prediction) -> dict[str, Tensor]:
    answers = {"less_or_equal": predicts_less_or_equal(prediction.comparison)}
    if prediction.digits is not None:
        answers["digits"] = prediction.digits.argmax(-1)
    return answers


def _has_digits(network: nn.Module) -> bool:
    """Whether the network gives digit logits. Other networks are run on two blank pairs.

    Raises InvalidValueError for a network that does not map pairs to logits.
    """
    base = base_network(network)
    if type(base) in (JointNetwork, SiameseNetwork):
        return bool(base.has_digits)
    like = next(network.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            output = copy.deepcopy(network).eval()(like.new_zeros(2, 2, SIDE, SIDE))
        comparison, digits = as_prediction(output)
        shapes = [None if part is None else tuple(part.shape) for part in (comparison, digits)]
        if shapes[0] not in ((2, 1), (2, 2)) or shapes[1] not in (None, (2, 2, CLASSES)):
            raise ValueError(f"for 2 pairs it gives {' and '.join(map(str, shapes))}")
    except Exception as fault:  # a user's network may raise anything
        accepted = f"{exception_message(fault)}; {_NETWORK}"
        raise InvalidValueError("model._target_", class_name(network), accepted) from fault
    return digits is not None
