"""PointClassification: a network for the disk under Lightning, the twin of `framework`'s training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import framework
from digitpairs.data.batches import Epoch, minibatches
from digitpairs.networks import create
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.streams import check_seed, stream
from digitpairs.training.build import build
from digitpairs.training.resumable import Resumable
from digitpairs.training.schedulers import Timing

# framework's losses, which the config names, and the same by autograd
LOSSES = {
    framework.MSE: F.mse_loss,
    framework.BinaryCrossEntropy: F.binary_cross_entropy_with_logits,
}


class PointClassification(Resumable):
    """Trains a network that maps points (B, 2) to one output (B, 1).

    Args: network, loss, optimizer, scheduler, early_stopping: configs, or (but the last) the objects; see conf/. outside: the label
    outside the disk. seed, weights_seed, dropout_seed: of all streams, and of each by itself.

    `history` and `test_metrics` are as those of `PairComparison`, with the metrics "loss" and "error" (per cent); `failure` is set to
    (epoch, reason) when the loss is not finite.
    """

    def __init__(
        self,
        network: nn.Module | Mapping,
        loss: Any,
        optimizer: Any,
        scheduler: Any,
        *,
        outside: int = 0,
        early_stopping: Mapping[str, Any] | None = None,
        seed: int = 0,
        weights_seed: int | None = None,
        dropout_seed: int | None = None,
        aux_seed: int | None = None,  # which all runs have, and no loss of a single part uses
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        parts = {"network": network, "loss": loss, "optimizer": optimizer, "scheduler": scheduler}
        objects = [key for key, part in parts.items() if not isinstance(part, Mapping)]
        self.save_hyperparameters(
            ignore=objects, logger=False
        )  # plain values: a checkpoint loads without running code
        weights_seed, self.dropout_seed = (
            check_seed("weights_seed", weights_seed, seed),
            check_seed("dropout_seed", dropout_seed, seed),
        )
        self.network = (
            create(lambda: build(network), stream(weights_seed, "weights"))
            if isinstance(network, Mapping)
            else network
        )
        self.loss, self.optimizer_recipe, self.schedule = (
            build(loss),
            build(optimizer),
            build(scheduler),
        )
        self.threshold = decision_threshold(self.loss, outside)
        self.stopping = make_early_stopping(early_stopping)
        self.history: list[dict[str, float]] = []
        self.test_metrics: dict[str, float] = {}
        self.failure: tuple[int, str] | None = None

    def forward(self, points: Tensor) -> Tensor:
        """(B, 2) -> (B, 1)."""
        return self.network(points)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer_recipe(self.network.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, self.timing())}

    def on_fit_start(self) -> None:
        self._masks, self._dropouts = (
            stream(self.dropout_seed, "dropout"),
            dropout_layers(self.network),
        )
        self.history = []
        if self.stopping is not None:
            self.stopping.start()
        self.resume()

    def timing(self) -> Timing:
        _ = self.trainer.estimated_stepping_batches  # asking for it sets the loader up
        return Timing(self.trainer.max_epochs, self.trainer.train_dataloader.steps_per_epoch)

    def depends_on_epochs(self) -> bool:
        return self.schedule.depends_on_epochs

    def fit_state(self) -> dict[str, Any]:
        stopping = None if self.stopping is None else self.stopping.state_dict()
        return {"history": self.history, "masks": self._masks.get_state(), "stopping": stopping}

    def load_fit_state(self, state: Mapping[str, Any]) -> None:
        self.history = list(state["history"])
        self._masks.set_state(state["masks"])
        if self.stopping is not None:
            self.stopping.load_state_dict(state["stopping"])

    def training_step(self, batch: Epoch, batch_index: int) -> None:
        """One epoch, see `ComparisonModule.training_step`."""
        optimizer = self.optimizers()
        rate, seen = optimizer.param_groups[0]["lr"], []
        for number, (points, target) in enumerate(batch.minibatches()):
            draw_masks(self._dropouts, len(points), [self._masks])
            optimizer.zero_grad()
            output = self.network(points)
            loss = self._loss(output, target)
            loss.backward()
            (optimizer.optimizer if number else optimizer).step()
            if self.schedule.interval == "step":
                self.lr_schedulers().step()
            seen.append((output.detach(), target, loss.detach()))
        self._row = {"epoch": self.current_epoch, "learning_rate": rate} | self._measured(
            "train", seen
        )

    def validation_step(self, batch: Any, batch_index: int) -> None:
        for points, target in minibatches(batch):
            output = self(points)
            self._evaluated.append((output, target, self._loss(output, target)))

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        self._evaluated: list[tuple[Tensor, Tensor, Tensor]] = []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self._row |= self._measured("validation", self._evaluated)

    def on_test_epoch_end(self) -> None:
        self.test_metrics = self._measured("test", self._evaluated)
        self.log_dict(self.test_metrics)
        if not math.isfinite(self.test_metrics["test/loss"]):
            self.failure = not_finite(len(self.history) - 1, self.test_metrics["test/loss"])

    def on_train_epoch_end(self) -> None:
        if self.schedule.interval == "epoch":
            self.lr_schedulers().step()
        self.history.append(self._row)
        for logger in self.loggers:
            logger.log_metrics(self._row, step=self.current_epoch)
        finite = all(parameter.isfinite().all() for parameter in self.network.parameters())
        if not (math.isfinite(self._row["train/loss"]) and finite):
            self.failure = not_finite(self.current_epoch, self._row["train/loss"])
            self.trainer.should_stop = True
        elif self.stopping is not None:  # framework's has a replica's axis before the values
            state = {name: value[None] for name, value in self.network.state_dict().items()}
            self.trainer.should_stop |= self.stopping.ends(0, self._row, state)
        super().on_train_epoch_end()

    def on_train_end(self) -> None:
        if self.stopping is not None:
            self.stopping.restore(
                {name: value[None] for name, value in self.network.state_dict().items()}
            )

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        return LOSSES[type(self.loss)](output, target, reduction=self.loss.reduction)

    def _measured(self, split: str, seen: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
        outputs, targets, losses = zip(*seen)
        rows = torch.tensor([len(each) for each in targets], dtype=torch.float64)
        values = torch.stack(losses).double()
        total = (values if self.loss.reduction == "sum" else values * rows).sum()
        wrong = (torch.cat(outputs) > self.threshold[0]) != (torch.cat(targets) > self.threshold[1])
        return {
            f"{split}/loss": (total / rows.sum()).item(),
            f"{split}/error": 100 * wrong.double().mean().item(),
        }


def decision_threshold(loss: Any, outside: float) -> tuple[float, float]:
    """Between the outputs of the two labels, and between the labels."""
    label = (1 + outside) / 2
    return (0.0 if isinstance(loss, framework.BinaryCrossEntropy) else label), label


def make_early_stopping(section: Mapping[str, Any] | None) -> framework.EarlyStopping | None:
    """Early stopping out of its settings; None without patience."""
    settings = dict(section or {})
    return framework.EarlyStopping(**settings) if settings.get("patience") is not None else None


def final_row(
    history: list[dict[str, float]], stopping: framework.EarlyStopping | None, replica: int
) -> dict[str, float]:
    """The row of the best epoch where early stopping watched, else the last."""
    if stopping is None or replica not in stopping.best_epoch:
        return history[-1]
    return history[stopping.best_epoch[replica]]


def not_finite(epoch: int, loss: float) -> tuple[int, str]:
    """A run's failure: the epoch, and the reason in words."""
    what = "the weights are not finite" if math.isfinite(loss) else f"the loss is {loss}"
    return (
        epoch,
        f"{what} in epoch {epoch}: a lower learning rate may help, unless the data are at fault",
    )
