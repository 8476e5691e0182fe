"""Fits that stop after an epoch and are continued by another process, with the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class FitInterrupted(BaseException):
    """A fit has stopped, and its checkpoint is written. It is no Exception: the run did not fail.

    `KeyboardInterrupt` and `SystemExit` are none for the same reason.
    """


class Interruption:
    """The request that fits stop after their epoch.

    Args:
        folder: of the checkpoints, one for each set of configs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.requested = folder, False

    def checkpoint(self, configs: Sequence[Any]) -> Path:
        """Where the fit of these configs is continued."""
        content = json.dumps(configs, sort_keys=True).encode()
        return self.folder / f"{hashlib.sha256(content).hexdigest()[:16]}.ckpt"


_current: Interruption | None = None


@contextlib.contextmanager
def interruptible(interruption: Interruption) -> Iterator[None]:
    """Let fits within the context follow the interruption, and go on from its checkpoints."""
    global _current
    _current = interruption
    try:
        yield
    finally:
        _current = None


def current_checkpoint(configs: Sequence[Any]) -> Path | None:
    """The checkpoint from which the fit of these configs goes on; None if there is none."""
    path = None if _current is None else _current.checkpoint(configs)
    return path if path is not None and path.exists() else None


def stopping_callbacks(configs: Sequence[Any]) -> list[pl.Callback]:
    """The callbacks that stop the fit of these configs on request."""
    return [] if _current is None else [_StopOnRequest(_current, _current.checkpoint(configs))]


class _StopOnRequest(Checkpoint):
    """A `Checkpoint`, since these are called after the module at the end of an epoch."""

    def __init__(self, interruption: Interruption, path: Path) -> None:
        self.interruption, self.path = interruption, path

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if self.interruption.requested and not (is_last or trainer.should_stop):
            trainer.save_checkpoint(self.path)
            raise FitInterrupted
