"""Fits that resume from Lightning's checkpoints: `trainer.fit(model, data, ckpt_path=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch.optim.lr_scheduler import LRScheduler

from digitpairs.checks import InvalidValueError
from digitpairs.training.schedulers import Timing

KEY = "digitpairs"  # in Lightning's checkpoints


class Resumable(LightningModule):
    """Base of modules whose fit, if stopped after any epoch and resumed, gives the same bits.

    Lightning restores the weights, the optimiser and the schedule. This class restores the
    loader's random streams and the module's `fit_state`. Optimisation is manual.
    """

    _checkpoint: Mapping[str, Any] | None = None
    _in_epoch = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def timing(self) -> Timing:
        """The length of the fit. Raises InvalidValueError if it has no epoch."""
        epochs = self.trainer.max_epochs or 0
        if epochs < 1:
            accepted = "at least 1: learning-rate schedules are laid out in epochs"
            raise InvalidValueError("max_epochs", self.trainer.max_epochs, accepted)
        batches = self.trainer.estimated_stepping_batches  # this property also sets up the loaders
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "steps_per_epoch"):
            return Timing(epochs, loader.steps_per_epoch)
        return Timing(epochs, cast(int, batches // epochs))  # a float only if it is infinite

    def depends_on_epochs(self) -> bool:
        """Whether anything (a schedule, stages) is laid out over all epochs of the fit."""
        raise NotImplementedError

    def fit_state(self) -> Any:
        """The module's own state between two epochs: plain values and tensors."""
        raise NotImplementedError

    def load_fit_state(self, state: Any) -> None:
        """Restore a `fit_state`."""
        raise NotImplementedError

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        loader: Any = self.trainer.train_dataloader
        checkpoint[KEY] = {
            "timing": tuple(self.timing()),
            "in_epoch": self._in_epoch,
            "loader": loader.state_dict() if hasattr(loader, "state_dict") else None,
            "fit": self.fit_state(),
        }

    def on_train_epoch_start(self) -> None:
        self._in_epoch = True

    def on_train_epoch_end(self) -> None:
        self._in_epoch = False

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._checkpoint = checkpoint.get(KEY)

    def resume(self) -> None:
        """Restore the fit's checkpoint, if it has one; the last call in `on_fit_start`.

        Raises InvalidValueError for a checkpoint from within an epoch, and for a fit of another
        length if the length changes what follows.
        """
        saved = self._checkpoint
        if self.trainer.ckpt_path is None or saved is None:
            return
        if saved["in_epoch"]:
            accepted = (
                "a checkpoint saved after an epoch: ModelCheckpoint(save_on_train_epoch_end=True)"
            )
            raise InvalidValueError("ckpt_path", self.trainer.ckpt_path, accepted)
        self._check_timing(Timing(*saved["timing"]))
        if saved["loader"] is not None:
            cast(Any, self.trainer.train_dataloader).load_state_dict(saved["loader"])
        self.load_fit_state(saved["fit"])

    def _check_timing(self, saved: Timing) -> None:
        now = self.timing()
        if self.depends_on_epochs() and now.epochs != saved.epochs:
            accepted = (
                f"the checkpoint's {saved.epochs}: its schedule, or its stages, "
                "are laid out over so many epochs"
            )
            raise InvalidValueError("max_epochs", now.epochs, accepted)
        if now.steps_per_epoch != saved.steps_per_epoch:
            accepted = f"data of {saved.steps_per_epoch} mini-batches an epoch, as the checkpoint's"
            raise InvalidValueError("datamodule", f"{now.steps_per_epoch} mini-batches", accepted)

    def _update_callback_metrics(self, row: Mapping[str, float]) -> None:
        """Put the row where callbacks look for monitored metrics.

        `self.log` takes 0.3 ms a metric, a fifth of a small network's epoch for all of them.
        """
        metrics = {name: torch.tensor(value) for name, value in row.items() if "/" in name}
        self.trainer.callback_metrics.update(metrics)

    def _optimizer(self) -> LightningOptimizer:
        """The fit's one optimiser, in the wrapper that counts its steps."""
        return cast(LightningOptimizer, self.optimizers())

    def _step_scheduler(self) -> None:
        """One step of the fit's one scheduler."""
        cast(LRScheduler, self.lr_schedulers()).step()
