"""PairComparison: one run, a comparison network under Lightning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from digitpairs.checks import InvalidValueError, choice, number, positive
from digitpairs.data.batches import minibatches
from digitpairs.data.sources import SIDE
from digitpairs.losses import PARTS, LambdaWeighting, Weighting, check_fits
from digitpairs.networks import Prediction, create
from digitpairs.streams import check_seed, stream
from digitpairs.training.build import build
from digitpairs.training.early_stopping import EarlyStopping
from digitpairs.training.early_stopping import early_stopping as early_stopping_of
from digitpairs.training.metrics import predicts_less_or_equal
from digitpairs.training.module import ComparisonModule
from digitpairs.training.optimizers import Adam
from digitpairs.training.schedulers import Constant, Schedule
from digitpairs.training.stages import check_two_stage

CLIP_ALGORITHMS = ("norm", "value")


class DivergenceError(RuntimeError):
    """A loss that is no finite number any more."""

    def __init__(self, epoch: int, value: float) -> None:
        super().__init__(epoch, value)
        self.epoch, self.value = epoch, value

    def __str__(self) -> str:
        return f"the loss became {self.value} in epoch {self.epoch}"


class PairComparison(ComparisonModule):
    """Trains a network (B, 2, 14, 14) -> `Prediction` on pairs of digits, and measures it.

    Each of `network`, `aux`, `optimizer`, `scheduler` is an object, or its config: a mapping with `_target_`, as in
    `conf/`. From configs a checkpoint rebuilds all by itself: `PairComparison.load_from_checkpoint(path)`; objects
    must be given again there.

    Args:
        network: the network; images come in as pixels in [0, 1] and are normalised here, with the mean and standard
            deviation of the data module's training pairs.
        aux: how the losses of the digits and of the comparison are weighed, a `Weighting`.
        optimizer: a recipe from `digitpairs.training.optimizers`, parameters -> optimiser.
        scheduler: a recipe from `digitpairs.training.schedulers`, or None for a constant rate.
        early_stopping: an `EarlyStopping` or its settings; None trains for all epochs.
        two_stage: the share of the epochs in which all but the comparison learns; in the rest the comparison learns on it,
            frozen. None is none: everything learns at once.
        label_smoothing: the share of each label, of digits and comparison, that the training's losses spread evenly over all
            classes, 0 to 1. Losses of validation and test are of the labels as they are.
        gradient_clip_val: bound of the gradient before each step, above 0; None is none.
        gradient_clip_algorithm: whether it bounds the "norm" of the whole gradient or each of its values ("value").
        seed: of all randomness here that has no seed of its own.
        weights_seed, dropout_seed, aux_seed: of the initial weights, the dropout masks, and random loss weights. A
            network that comes as an object keeps the weights that it has.

    Ordinary batches (images, digits, target) from any loader do as well as this package's. Metrics are logged once an
    epoch under train/, validation/ and test/ (losses in nats, errors in per cent) and kept in `history`, a dict an epoch,
    and in `test_metrics`.

    Raises InvalidValueError for settings that do not fit, and Diverged at the end of an epoch, or of the test, whose loss is
    not finite.
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
        configured = isinstance(network, Mapping)
        made = (
            create(lambda: build(network), stream(weights_seed, "weights"))
            if configured
            else network
        )
        super().__init__(made, LambdaWeighting(0.8) if aux is None else build(aux))
        parts = {
            "network": network,
            "aux": aux,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "early_stopping": early_stopping,
        }
        plain = {
            key: part for key, part in parts.items() if part is None or isinstance(part, Mapping)
        }
        seeds = {
            "seed": seed,
            "weights_seed": weights_seed,
            "dropout_seed": dropout_seed,
            "aux_seed": aux_seed,
        }
        numbers = {"two_stage": two_stage, "label_smoothing": label_smoothing}
        clipping = {
            "gradient_clip_val": gradient_clip_val,
            "gradient_clip_algorithm": gradient_clip_algorithm,
        }
        self.save_hyperparameters(plain | numbers | clipping | seeds, logger=False)
        self.optimizer_recipe = Adam(lr=0.001) if optimizer is None else build(optimizer)
        self.schedule: Schedule = Constant() if scheduler is None else build(scheduler)
        self.early_stopping = early_stopping_of(early_stopping)
        self.label_smoothing = number("label_smoothing", label_smoothing, at_most=1)
        self.clip_value = (
            None if gradient_clip_val is None else positive("gradient_clip_val", gradient_clip_val)
        )
        self.clip_algorithm = choice(
            "gradient_clip_algorithm", gradient_clip_algorithm, CLIP_ALGORITHMS
        )
        check_fits(self.aux, _has_digits(self.network))
        self.two_stage = check_two_stage(two_stage, self.network, self.aux)
        if self.two_stage and self.early_stopping.patience is not None:
            raise InvalidValueError(
                "two_stage",
                two_stage,
                "null with early stopping, which would watch both stages as one",
            )
        self.history: list[dict[str, float]] = []
        self.test_metrics: dict[str, float] = {}
        self.confusion: Sequence[Sequence[Sequence[int]]] | None = (
            None  # of the test; None without digit logits
        )
        self.failure: DivergenceError | None = None
        self.ended = False  # before the last epoch, by a failure or by early stopping
        self._part_history: list[
            Tensor
        ] = []  # mean losses by part of each epoch, for the weighting
        self._row: dict[str, float] = {}

    @property
    def members(self) -> Sequence[PairComparison]:
        return (self,)

    # What a run does for itself, alone or in an array; once it has ended, nothing that an array goes on with.

    def start(self) -> None:
        """Before a fit: the streams from their beginnings, and nothing recorded yet."""
        self.history, self.test_metrics, self._part_history = [], {}, []
        self.dropout_stream = stream(self.hparams.dropout_seed, "dropout")
        self.aux_stream = stream(self.hparams.aux_seed, "aux")
        self.failure, self.ended = None, False
        self.early_stopping.start()

    def run_state(self) -> dict[str, Any]:
        """What a fit has left so far, for `load_run_state`: plain values and tensors."""
        return {
            "history": self.history,
            "row": self._row,
            "part_history": self._part_history,
            "ended": self.ended,
            "streams": [self.dropout_stream.get_state(), self.aux_stream.get_state()],
            "early_stopping": self.early_stopping.state_dict(),
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `run_state`."""
        self.history, self._part_history = list(state["history"]), list(state["part_history"])
        self._row, self.ended = dict(state["row"]), state["ended"]
        for each, generator_state in zip((self.dropout_stream, self.aux_stream), state["streams"]):
            each.set_state(generator_state)
        self.early_stopping.load_state_dict(state["early_stopping"])

    def set_mean_and_std(self, mean: float, std: float) -> None:
        """What the images are normalised with."""
        self.mean.fill_(mean)
        self.std.fill_(std)

    def start_epoch(self, epoch: int, rate: float) -> None:
        if self.ended:
            return
        self.aux.start_epoch(epoch, self._part_history)
        self._row = {"epoch": epoch, "learning_rate": rate}
        self._row |= {
            f"aux/{part}_weight": weight for part, weight in zip(PARTS, self.aux.current().tolist())
        }

    def record(self, split: str, metrics: Mapping[str, float]) -> None:
        """An epoch's metrics into its row; of the training, also where the weighting looks for the parts' losses."""
        if self.ended:
            return
        self._row |= _prefixed(split, metrics)
        if split == "train":
            self._part_history.append(
                torch.tensor(
                    [metrics[f"{part}_loss"] for part in PARTS if f"{part}_loss" in metrics]
                )
            )
        self._check(metrics["loss"])

    def end_epoch(self) -> None:
        """The row into the history, unless the run had ended before."""
        if self.ended:
            return
        self.history.append(self._row)
        self.ended = self.failure is not None or self.early_stopping.ends(self._row, self.network)

    def record_test(
        self, metrics: Mapping[str, float], confusion: Sequence[Sequence[Sequence[int]]] | None
    ) -> None:
        """The metrics of the test pairs, and how often each digit got each answer (see `metrics.confusion`)."""
        self.test_metrics, self.confusion = _prefixed("test", metrics), confusion
        self._check(metrics["loss"])

    def final_row(self) -> dict[str, float]:
        """The history's row of the epoch whose weights the network has: the last, or early stopping's best."""
        best = self.early_stopping.best_epoch
        return (
            self.history[-1]
            if best is None
            else next(row for row in self.history if row["epoch"] == best)
        )

    def _check(self, loss: float) -> None:
        if self.failure is None and not math.isfinite(
            loss
        ):  # a part that is not finite makes the sum so, whatever its weight
            self.failure = DivergenceError(int(self._row.get("epoch", 0)), loss)

    # What Lightning calls, alone.

    def configure_optimizers(self) -> dict[str, Any]:
        weights = {"params": list(self.network.parameters())}
        learned = {
            "params": list(self.aux.parameters()),
            "weight_decay": 0.0,
        }  # a decay would pull the loss's weights to 1
        optimizer = self.optimizer_recipe([weights, learned] if learned["params"] else [weights])
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, self.timing())}

    def on_fit_start(self) -> None:
        super().on_fit_start()
        datamodule = self.trainer.datamodule
        if hasattr(datamodule, "mean_and_std"):
            self.set_mean_and_std(*datamodule.mean_and_std)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self._notify_callbacks()
        for logger in self.loggers:
            logger.log_metrics(self._row, step=self.current_epoch)
        self._raise_failure()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._notify_callbacks()
        if (
            self.trainer.state.fn == TrainerFn.VALIDATING
        ):  # `trainer.validating` is true within a fit as well
            self.log_dict(_prefixed(self.watched, self._evaluation.measure()[0]))

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._raise_failure()
        self.log_dict(self.test_metrics)  # Lightning rounds what it returns to float32

    def predict_step(self, batch: Any, batch_index: int) -> dict[str, Tensor]:
        """For each pair: whether the first digit is at most the second (B,), and, with digit logits, the digits (B, 2)."""
        answers = [_answers(self(images)) for images, *_ in minibatches(batch)]
        return {name: torch.cat([each[name] for each in answers]) for name in answers[0]}

    def _start_rates(self) -> Sequence[float]:
        return [self.optimizers().param_groups[0]["lr"]]

    def _end_step(self, optimizer: Optimizer) -> None:
        if self.clip_value is not None:
            clip = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}[
                self.clip_algorithm
            ]
            clip([*self.network.parameters(), *self.aux.parameters()], self.clip_value)
        optimizer.step()
        if self.schedule.interval == "step":
            self.lr_schedulers().step()

    def _end_rates(self) -> None:
        if self.schedule.interval == "epoch":
            self.lr_schedulers().step()

    def _notify_callbacks(self) -> None:
        """The row, where callbacks look for what they monitor.

        `self.log` would do it too, at 0.3 ms a metric and epoch: together as long as a fifth of a small network's epoch.
        """
        metrics = {name: torch.tensor(value) for name, value in self._row.items() if "/" in name}
        self.trainer.callback_metrics.update(metrics)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


def _answers(prediction: Prediction) -> dict[str, Tensor]:
    answers = {"less_or_equal": predicts_less_or_equal(prediction.comparison)}
    if prediction.digits is not None:
        answers["digits"] = prediction.digits.argmax(-1)
    return answers


def _has_digits(network: nn.Module) -> bool:
    """Whether the network names digits; one that does not say so is asked, a copy of it, on one blank pair."""
    if hasattr(network, "has_digits"):
        return network.has_digits
    like = next(network.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            return (
                copy.deepcopy(network).eval()(like.new_zeros(1, 2, SIDE, SIDE)).digits is not None
            )
    except (RuntimeError, AttributeError, TypeError) as fault:
        raise InvalidValueError(
            "model",
            type(network).__name__,
            f"a network that maps pairs (B, 2, {SIDE}, {SIDE}) to a Prediction, and it says: {fault}",
        ) from fault


def _prefixed(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in metrics.items()}
