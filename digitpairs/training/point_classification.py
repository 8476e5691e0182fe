"""PointClassification: a network for the disk under Lightning, which `framework` can train too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

import framework
from digitpairs.data.batches import Epoch, minibatches
from digitpairs.networks.layers import draw_masks, dropout_layers
from digitpairs.streams import check_seed, stream
from digitpairs.training.build import build, build_network
from digitpairs.training.resumable import Resumable

# framework's losses, which the config names, and torch's functions that compute the same
LOSSES: dict[type, Callable[..., Tensor]] = {
    framework.MSE: F.mse_loss,
    framework.BinaryCrossEntropy: F.binary_cross_entropy_with_logits,
}

Result = tuple[Tensor, Tensor, Tensor]  # of a mini-batch: output (B, 1), target (B, 1), loss ()


class PointClassification(Resumable):
    """Trains a network that maps points (B, 2) to one output (B, 1).

    `history` and `test_metrics` are those of `PairComparison`, with the metrics "loss" and "error"
    (per cent). `failure` is (epoch, reason) if the loss was not finite.

    Args:
        network, loss, optimizer, scheduler: objects or configs, see conf/.
        early_stopping: the settings of `framework.EarlyStopping`.
        outside: the label of points outside the disk.
        seed: of all random streams that have no seed of their own.
        weights_seed, dropout_seed: of the initial weights and of the dropout masks.
        aux_seed: not used; all runs have one.
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
        aux_seed: int | None = None,
    ) -> None:
        super().__init__()
        parts = {"network": network, "loss": loss, "optimizer": optimizer, "scheduler": scheduler}
        objects = [key for key, part in parts.items() if not isinstance(part, Mapping)]
        # Only plain values: a checkpoint is loaded without running code.
        self.save_hyperparameters(ignore=objects, logger=False)
        self.dropout_seed = check_seed("dropout_seed", dropout_seed, seed)
        self.network = build_network(network, check_seed("weights_seed", weights_seed, seed))
        self.loss = build(loss)
        self.optimizer_recipe, self.schedule = build(optimizer), build(scheduler)
        self.threshold = decision_threshold(self.loss, outside)
        self.stopping: framework.EarlyStopping | None = None
        if early_stopping is not None and early_stopping.get("patience") is not None:
            self.stopping = framework.EarlyStopping(**early_stopping)
        self.history: list[dict[str, float]] = []
        self.test_metrics: dict[str, float] = {}
        self.failure: tuple[int, str] | None = None

    def forward(self, points: Tensor) -> Tensor:
        """(B, 2) -> (B, 1)."""
        return self.network(points)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer_recipe(self.network.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, self.timing())}

    def on_fit_start(self) -> None:
        self._dropout_stream = stream(self.dropout_seed, "dropout")
        self._dropouts = dropout_layers(self.network)
        self.history = []
        if self.stopping is not None:
            self.stopping.start()
        self.resume()

    def depends_on_epochs(self) -> bool:
        return self.schedule.depends_on_epochs

    def fit_state(self) -> dict[str, Any]:
        stopping = None if self.stopping is None else self.stopping.state_dict()
        masks = self._dropout_stream.get_state()
        return {"history": self.history, "masks": masks, "stopping": stopping}

    def load_fit_state(self, state: Mapping[str, Any]) -> None:
        self.history = list(state["history"])
        self._dropout_stream.set_state(state["masks"])
        if self.stopping is not None:
            self.stopping.load_state_dict(state["stopping"])

    def training_step(self, batch: Epoch, batch_index: int) -> None:
        """Train on each mini-batch of an epoch, see `ComparisonModule.training_step`."""
        optimizer = self._optimizer()
        rate, results = optimizer.param_groups[0]["lr"], []
        for number, (points, target) in enumerate(batch.minibatches()):
            draw_masks(self._dropouts, len(points), [self._dropout_stream])
            optimizer.zero_grad()
            output = self.network(points)
            loss = self._loss(output, target)
            loss.backward()
            (optimizer.optimizer if number else optimizer).step()
            if self.schedule.interval == "step":
                self._step_scheduler()
            results.append((output.detach(), target, loss.detach()))
        self._row = {"epoch": self.current_epoch, "learning_rate": rate}
        self._row |= self._metrics("train", results)

    def validation_step(self, batch: Any, batch_index: int) -> None:
        for points, target in minibatches(batch):
            output = self(points)
            self._results.append((output, target, self._loss(output, target)))

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        self._results: list[Result] = []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self._row |= self._metrics("validation", self._results)
        self._update_callback_metrics(self._row)

    def on_test_epoch_end(self) -> None:
        self.test_metrics = self._metrics("test", self._results)
        self.log_dict(self.test_metrics)
        if not math.isfinite(self.test_metrics["test/loss"]):
            self.failure = not_finite(len(self.history) - 1, self.test_metrics["test/loss"])

    def on_train_epoch_end(self) -> None:
        if self.schedule.interval == "epoch":
            self._step_scheduler()
        self.history.append(self._row)
        self._update_callback_metrics(self._row)
        for logger in self.loggers:
            logger.log_metrics(self._row, step=self.current_epoch)
        finite = all(parameter.isfinite().all() for parameter in self.network.parameters())
        if not (math.isfinite(self._row["train/loss"]) and finite):
            self.failure = not_finite(self.current_epoch, self._row["train/loss"])
            self.trainer.should_stop = True
        elif self.stopping is not None:
            self.trainer.should_stop |= self.stopping.ends(0, self._row, self._replica())
        super().on_train_epoch_end()

    def on_train_end(self) -> None:
        if self.stopping is not None:
            self.stopping.restore(self._replica())

    def _replica(self) -> dict[str, Tensor]:
        """Views of the network's values with `framework`'s axis of replicas before them."""
        return {name: value[None] for name, value in self.network.state_dict().items()}

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        return LOSSES[type(self.loss)](output, target, reduction=self.loss.reduction)

    def _metrics(self, split: str, results: list[Result]) -> dict[str, float]:
        """Loss and error over all mini-batches."""
        outputs, targets, losses = zip(*results)
        rows = torch.tensor([len(target) for target in targets], dtype=torch.float64)
        values = torch.stack(losses).double()
        total = (values if self.loss.reduction == "sum" else values * rows).sum()
        between_outputs, between_labels = self.threshold
        wrong = (torch.cat(outputs) > between_outputs) != (torch.cat(targets) > between_labels)
        return {
            f"{split}/loss": (total / rows.sum()).item(),
            f"{split}/error": 100 * wrong.double().mean().item(),
        }


def decision_threshold(loss: Any, outside: float) -> tuple[float, float]:
    """The thresholds between the outputs for the two labels, and between the labels."""
    middle = (1 + outside) / 2
    return (0.0 if isinstance(loss, framework.BinaryCrossEntropy) else middle), middle


def final_row(
    history: list[dict[str, float]], stopping: framework.EarlyStopping | None, replica: int
) -> dict[str, float]:
    """The row of early stopping's best epoch, or of the last epoch."""
    if stopping is None or replica not in stopping.best_epoch:
        return history[-1]
    return history[stopping.best_epoch[replica]]


def not_finite(epoch: int, loss: float) -> tuple[int, str]:
    """A run's failure: the epoch, and the reason."""
    subject = "the weights are not finite" if math.isfinite(loss) else f"the loss is {loss}"
    advice = "a lower learning rate may help, unless the data are at fault"
    return epoch, f"{subject} in epoch {epoch}: {advice}"
