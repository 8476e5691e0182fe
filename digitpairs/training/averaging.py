"""Stochastic weight averaging, as a callback of Lightning."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging

from digitpairs.checks import number


class StochasticWeightAveraging(WeightAveraging):
    """The run ends with the mean of its weights after each of its last epochs.

    The learning rate stays that of the schedule. Lightning's callback of this name replaces the
    schedule, and trains an epoch more where there is batch norm; neither suits manual optimisation.
    Buffers, such as the statistics of batch norm, are averaged as well. Validation in these epochs
    is of the mean so far.

    Args:
        start: the share of the epochs before the first one of the mean, from 0 to 1.
    """

    def __init__(self, start: float = 0.75) -> None:
        super().__init__()
        self.start = number("start", start, at_most=1)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        epochs = trainer.max_epochs or 0
        self._first = min(int(self.start * epochs), epochs - 1)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether a step has ended. Lightning's steps are epochs here (see `Epoch`)."""
        if step_idx is None:
            return False
        if step_idx <= self._first and self._average_model is not None:
            self._average_model.n_averaged.zero_()  # the mean is that of this epoch alone
        return True
