"""Fits that go on from one of Lightning's checkpoints: `trainer.fit(model, data, ckpt_path=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule

from digitpairs.checks import InvalidValueError
from digitpairs.training.schedulers import Timing

_KEY = "digitpairs"  # in Lightning's checkpoints


class Resumable(LightningModule):
    """Base of modules whose fit, cut short after any epoch and resumed, ends as an unbroken one, bit for bit.

    Lightning keeps the weights, the optimiser and the schedule. This keeps the rest: the random
    streams of the loader, and what the module's `fit_state` says.
    """

    _kept: Mapping[str, Any] | None = None
    _in_epoch = False

    def timing(self) -> Timing:
        """The length of the fit."""
        raise NotImplementedError

    def depends_on_epochs(self) -> bool:
        """Whether anything (a schedule, stages) is laid out over all epochs of the fit."""
        raise NotImplementedError

    def fit_state(self) -> Any:
        """What the module has to keep: plain values and tensors."""
        raise NotImplementedError

    def load_fit_state(self, state: Any) -> None:
        """Goes on from a `fit_state`."""
        raise NotImplementedError

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        loader = self.trainer.train_dataloader
        checkpoint[_KEY] = {
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
        self._kept = checkpoint.get(_KEY)

    def resume(self) -> None:
        """To be called last in `on_fit_start`: goes on where the checkpoint of the fit was saved, if it has one.

        Raises InvalidValueError for a checkpoint from within an epoch, and for a fit of another length
        where that changes what follows.
        """
        if self.trainer.ckpt_path is None or self._kept is None:
            return
        if self._kept["in_epoch"]:
            accepted = (
                "a checkpoint saved after an epoch: ModelCheckpoint(save_on_train_epoch_end=True)"
            )
            raise InvalidValueError("ckpt_path", self.trainer.ckpt_path, accepted)
        now, then = self.timing(), Timing(*self._kept["timing"])
        if self.depends_on_epochs() and now.epochs != then.epochs:
            accepted = f"the checkpoint's {then.epochs}: its schedule, or its stages, are laid out over so many epochs"
            raise InvalidValueError("max_epochs", now.epochs, accepted)
        if now.steps_per_epoch != then.steps_per_epoch:
            accepted = f"data of {then.steps_per_epoch} mini-batches an epoch, as the checkpoint's"
            raise InvalidValueError("datamodule", f"{now.steps_per_epoch} mini-batches", accepted)
        if self._kept["loader"] is not None:
            self.trainer.train_dataloader.load_state_dict(self._kept["loader"])
        self.load_fit_state(self._kept["fit"])
