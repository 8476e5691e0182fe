"""PairComparison: a comparison network under Lightning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from digitpairs.checks import InvalidValue
from digitpairs.data.batches import Chunk
from digitpairs.data.sources import SIDE
from digitpairs.losses import PARTS, LambdaWeighting, Weighting, check_fits, loss_parts
from digitpairs.networks import Prediction, create
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.streams import check_seed, stream
from digitpairs.training.metrics import Tally, says_less_or_equal
from digitpairs.training.optimizers import Adam
from digitpairs.training.schedulers import Schedule, Timing


class Diverged(RuntimeError):
    """A loss that is no finite number any more."""

    def __init__(self, epoch: int, value: float) -> None:
        super().__init__(epoch, value)
        self.epoch, self.value = epoch, value

    def __str__(self) -> str:
        return f"the loss became {self.value} in epoch {self.epoch}"


class PairComparison(LightningModule):
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
        seed: of all randomness here that has no seed of its own.
        weights_seed, dropout_seed, aux_seed: of the initial weights, the dropout masks, and random loss weights. A
            network that comes as an object keeps the weights that it has.

    Optimisation is manual, since what Lightning sees as a batch may be a `Chunk` of many mini-batches. Ordinary batches
    (images, digits, target) from any loader do as well. Metrics are logged once an epoch under train/, validation/ and
    test/ (losses in nats, errors in per cent) and kept in `history`, a dict an epoch, and in `test_metrics`.

    Raises InvalidValue for settings that do not fit, and Diverged at the end of an epoch, or of the test, whose loss is
    not finite.
    """

    def __init__(
        self,
        network: nn.Module | Mapping,
        aux: Weighting | Mapping | None = None,
        optimizer: Callable[..., Optimizer] | Mapping | None = None,
        scheduler: Schedule | Mapping | None = None,
        *,
        seed: int = 0,
        weights_seed: int | None = None,
        dropout_seed: int | None = None,
        aux_seed: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        seed = check_seed("seed", seed)
        self._dropout_seed = check_seed("dropout_seed", dropout_seed, seed)
        self._aux_seed = check_seed("aux_seed", aux_seed, seed)
        weights_seed = check_seed("weights_seed", weights_seed, seed)
        parts = dict(network=network, aux=aux, optimizer=optimizer, scheduler=scheduler)
        plain = {key: part for key, part in parts.items() if part is None or isinstance(part, Mapping)}
        seeds = dict(seed=seed, weights_seed=weights_seed, dropout_seed=self._dropout_seed, aux_seed=self._aux_seed)
        self.save_hyperparameters(plain | seeds, logger=False)
        configured = isinstance(network, Mapping)
        self.network = create(lambda: build(network), stream(weights_seed, "weights")) if configured else network
        self.aux = LambdaWeighting(0.8) if aux is None else build(aux)
        self.optimizer_recipe = Adam(lr=0.001) if optimizer is None else build(optimizer)
        self.schedule: Schedule | None = build(scheduler)
        check_fits(self.aux, _has_digits(self.network))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.history: list[dict[str, float]] = []
        self.test_metrics: dict[str, float] = {}
        self._part_history: list[Tensor] = []  # mean losses by part of each epoch, for the weighting
        self._dropouts = dropout_layers(self.network)

    def forward(self, images: Tensor) -> Prediction:
        """Pixels (B, 2, 14, 14) in [0, 1] -> Prediction."""
        return self.network(self._normalised(images))

    def configure_optimizers(self) -> Optimizer | dict[str, Any]:
        weights = {"params": list(self.network.parameters())}
        learned = {"params": list(self.aux.parameters()), "weight_decay": 0.0}  # a decay would pull the loss's weights to 1
        optimizer = self.optimizer_recipe([weights, learned] if learned["params"] else [weights])
        if self.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, self._timing())}

    def on_fit_start(self) -> None:
        if self.trainer.precision == "16-mixed":
            raise InvalidValue("precision", "16-mixed", "a precision whose gradients need no scaling, such as bf16-mixed")
        datamodule = self.trainer.datamodule
        if hasattr(datamodule, "mean_and_std"):
            mean, std = datamodule.mean_and_std
            self.mean.fill_(mean)
            self.std.fill_(std)
        self._dropout_stream = stream(self._dropout_seed, "dropout")
        self._aux_stream = stream(self._aux_seed, "aux")

    def on_train_epoch_start(self) -> None:
        self._tally = Tally()
        self.aux.start_epoch(self.current_epoch, self._part_history)
        self._row: dict[str, float] = {"learning_rate": self.optimizers().param_groups[0]["lr"]}
        self._row |= {f"aux/{part}_weight": weight for part, weight in zip(PARTS, self.aux.current().tolist())}

    def training_step(self, batch: Any, batch_index: int) -> None:
        """Train on each mini-batch of a chunk, or on an ordinary batch.

        Lightning's wrapper of the optimiser counts the steps and its `manual_backward` calls hooks, which together take
        a tenth of a small network's step: one step a chunk goes through the wrapper, so that `trainer.global_step` counts
        chunks.
        """
        optimizer = self.optimizers()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        scheduler = self.lr_schedulers() if self.schedule and self.schedule.interval == "step" else None
        for number, (images, digits, target) in enumerate(self._normalised_minibatches(batch)):
            draw_masks(self._dropouts, len(target), self._dropout_stream)
            self.aux.start_step(self._aux_stream)
            prediction = self.network(images)
            parts = loss_parts(prediction, digits, target)
            loss = self.aux(parts)
            for parameter in parameters:
                parameter.grad = None  # what `zero_grad` does, without its profiler hooks
            loss.backward()
            (optimizer.optimizer if number else optimizer).step()
            if scheduler:
                scheduler.step()
            # Autocast keeps the weights that it casts until its context ends, which here outlives their update.
            torch.clear_autocast_cache()
            self._tally.add(prediction, digits, target, parts, loss)

    def on_train_epoch_end(self) -> None:
        if self.schedule and self.schedule.interval == "epoch":
            self.lr_schedulers().step()
        metrics = self._measured(self._tally)
        self._part_history.append(torch.tensor([metrics[f"{part}_loss"] for part in PARTS if f"{part}_loss" in metrics]))
        self._record("train", metrics)
        self.history.append({"epoch": self.current_epoch, **self._row})
        for logger in self.loggers:
            logger.log_metrics(self._row, step=self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        self._evaluation = Tally()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        images, digits, target = batch
        prediction = self(images)
        parts = loss_parts(prediction, digits, target)
        self._evaluation.add(prediction, digits, target, parts, self.aux(parts))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == TrainerFn.VALIDATING:  # `trainer.validating` is true within a fit as well
            self.log_dict(_prefixed("validation", self._evaluation.measure()))
        elif not self.trainer.sanity_checking:
            self._record("validation", self._evaluation.measure())

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self.test_metrics = _prefixed("test", self._measured(self._evaluation))
        self.log_dict(self.test_metrics)  # Lightning rounds what it returns to float32

    def predict_step(self, batch: Any, batch_index: int) -> dict[str, Tensor]:
        """For each pair: whether the first digit is at most the second (B,), and, with digit logits, the digits (B, 2)."""
        prediction = self(batch[0])
        answer = {"less_or_equal": says_less_or_equal(prediction.comparison)}
        return answer if prediction.digits is None else answer | {"digits": prediction.digits.argmax(-1)}

    def _normalised(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def _normalised_minibatches(self, batch: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of a chunk that nothing is done to, all at once; augmentation sees pixels, whose background is 0."""
        if isinstance(batch, Chunk) and batch.transform is None:
            pairs = batch.batch._replace(images=self._normalised(batch.batch.images))
            yield from batch._replace(batch=pairs).minibatches()
        else:
            for images, *others in batch.minibatches() if isinstance(batch, Chunk) else [batch]:
                yield self._normalised(images), *others

    def _record(self, split: str, metrics: dict[str, float]) -> None:
        """Into the epoch's row, and where callbacks look for what they monitor.

        `self.log` would do both, at 0.3 ms a metric and epoch: together as long as a fifth of a small network's epoch.
        """
        metrics = _prefixed(split, metrics)
        self._row |= metrics
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})

    def _measured(self, tally: Tally) -> dict[str, float]:
        metrics = tally.measure()
        if not math.isfinite(metrics["loss"]):  # a part that is not finite makes the sum so, whatever its weight
            raise Diverged(self.current_epoch, metrics["loss"])
        return metrics

    def _timing(self) -> Timing:
        if (self.trainer.max_epochs or 0) < 1:
            raise InvalidValue("max_epochs", self.trainer.max_epochs, "at least 1: learning-rate schedules are laid out in epochs")
        chunks = self.trainer.estimated_stepping_batches // self.trainer.max_epochs  # this sets the loaders up, too
        return Timing(self.trainer.max_epochs, getattr(self.trainer.train_dataloader, "steps_per_epoch", chunks))


def build(part: Any) -> Any:
    """An object from its config (a mapping with `_target_`); anything else as it is."""
    if not isinstance(part, Mapping):
        return part
    from hydra.utils import instantiate  # a notebook that brings its own objects needs no Hydra

    return instantiate(part, _convert_="all")


def _has_digits(network: nn.Module) -> bool:
    """Whether the network names digits: asked of a copy of it, on one blank pair of its device and type."""
    like = next(network.parameters(), torch.empty(0))
    with torch.no_grad():
        prediction = copy.deepcopy(network).eval()(like.new_zeros(1, 2, SIDE, SIDE))
    return prediction.digits is not None


def _prefixed(split: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in metrics.items()}
