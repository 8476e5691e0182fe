"""What one run records and draws for itself, whether it trains alone or in an array."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from digitpairs.losses import PARTS, Weighting
from digitpairs.networks import Prediction
from digitpairs.streams import stream
from digitpairs.training.early_stopping import EarlyStopping
from digitpairs.training.schedulers import Schedule
from digitpairs.training.temperature import TemperatureScaling

Confusion = Sequence[Sequence[Sequence[int]]]


class DivergenceError(RuntimeError):
    """The loss is not finite."""

    def __init__(self, epoch: int, value: float) -> None:
        super().__init__(epoch, value)
        self.epoch, self.value = epoch, value

    def __str__(self) -> str:
        return f"the loss became {self.value} in epoch {self.epoch}"


class RunRecord:
    """Mixin: a run's history, failure, early stopping, weights of the loss and random streams.

    `start` begins a fit. Once the run has `ended`, the other methods change nothing.
    """

    network: nn.Module
    aux: Weighting
    schedule: Schedule
    early_stopping: EarlyStopping
    two_stage: float | None
    label_smoothing: float
    ema: float | None
    calibration: TemperatureScaling | None
    dropout_seed: int
    aux_seed: int

    def clear(self) -> None:
        """Empty the record."""
        self.history: list[dict[str, float]] = []  # a row for each epoch
        self.test_metrics: dict[str, float] = {}
        self.confusion: Confusion | None = None  # of the test; None without digit logits
        self.test_predictions: Prediction | None = None  # the logits of the test; None before it
        self.failure: DivergenceError | None = None
        self.ended = False  # by a failure or by early stopping
        self.paused = False  # before its last epoch, to go on later; a paused run is not tested
        self._part_history: list[Tensor] = []  # mean parts of the loss in each epoch
        self._row: dict[str, float] = {}  # of the current epoch

    def start(self) -> None:
        """Empty the record, and restart the random streams and early stopping."""
        self.clear()
        self.dropout_stream = stream(self.dropout_seed, "dropout")
        self.aux_stream = stream(self.aux_seed, "aux")
        self.early_stopping.start()

    def run_state(self) -> dict[str, Any]:
        """The record and the streams' states, for `load_run_state`: plain values and tensors."""
        return {
            "history": self.history,
            "row": self._row,
            "part_history": self._part_history,
            "ended": self.ended,
            "streams": [self.dropout_stream.get_state(), self.aux_stream.get_state()],
            "early_stopping": self.early_stopping.state_dict(),
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Restore a `run_state`."""
        self.history, self._part_history = list(state["history"]), list(state["part_history"])
        self._row, self.ended = dict(state["row"]), state["ended"]
        dropout_state, aux_state = state["streams"]
        self.dropout_stream.set_state(dropout_state)
        self.aux_stream.set_state(aux_state)
        self.early_stopping.load_state_dict(state["early_stopping"])

    def start_epoch(self, epoch: int, rate: float) -> None:
        """Set the epoch's weights of the loss, and begin its row."""
        if self.ended:
            return
        self.aux.start_epoch(epoch, self._part_history)
        weights = zip(PARTS, self.aux.current().tolist())
        self._row = {"epoch": epoch, "learning_rate": rate}
        self._row |= {f"aux/{part}_weight": weight for part, weight in weights}

    def record(self, split: str, metrics: Mapping[str, float]) -> None:
        """Add an epoch's metrics to its row, under `split`/."""
        if self.ended:
            return
        self._row |= prefixed(split, metrics)
        if split == "train":
            losses = [metrics[f"{part}_loss"] for part in PARTS if f"{part}_loss" in metrics]
            self._part_history.append(torch.tensor(losses))
        self._check(metrics["loss"])

    def end_epoch(self) -> None:
        """Append the row to the history, and decide whether the run ends here."""
        if self.ended:
            return
        self.history.append(self._row)
        self.ended = self.failure is not None or self.early_stopping.ends(self._row, self.network)

    def record_test(
        self, metrics: Mapping[str, float], confusion: Confusion | None, predictions: Prediction
    ) -> None:
        """Keep the test's metrics, its confusion tables (see `metrics.confusion`) and logits.

        All are of the logits before temperatures, which are added to the metrics.
        """
        if self.paused:
            return
        self.test_metrics, self.confusion = prefixed("test", metrics), confusion
        if self.calibration is not None:
            self.test_metrics |= self.calibration.temperatures()
        self.test_predictions = predictions
        self._check(metrics["loss"])

    def final_row(self) -> dict[str, float]:
        """The history's row of the epoch whose weights the network has: the last or the best."""
        best = self.early_stopping.best_epoch
        if best is None:
            return self.history[-1]
        return next(row for row in self.history if row["epoch"] == best)

    def _check(self, loss: float) -> None:
        """Keep the first loss that is not finite; a part that is not finite makes the sum so."""
        if self.failure is None and not math.isfinite(loss):
            self.failure = DivergenceError(int(self._row.get("epoch", 0)), loss)


def prefixed(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics with the names of the history: split/name."""
    return {f"{split}/{name}": value for name, value in metrics.items()}
