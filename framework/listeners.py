"""Listeners of the trainer: progress on the terminal, TensorBoard's files."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Listener:
    """Base; does nothing."""

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        """Called after each epoch of each replica with its row of the history."""

    def end(self) -> None:
        """Called at the end of `fit`, also after an error."""


class Progress(Listener):
    """Shows the epoch, and the metrics' means over the replicas, in one line.

    On a terminal the line is updated in place. Elsewhere a new line is written every `seconds`,
    and at the end.
    """

    def __init__(self, stream: TextIO | None = None, seconds: float = 5.0) -> None:
        self.stream = stream or sys.stderr
        self.seconds = seconds
        self.rows: list[Mapping[str, float]] = []  # of the latest epoch, one for each replica
        self.shown = time.monotonic()

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        if self.rows and row["epoch"] != self.rows[0]["epoch"]:
            self.rows = []
        self.rows.append(row)
        interval = 0.1 if self.stream.isatty() else self.seconds
        if time.monotonic() - self.shown > interval:
            self._show("\r" if self.stream.isatty() else "\n")

    def end(self) -> None:
        if self.rows:
            self._show("\n")
        self.rows = []

    def _show(self, end: str) -> None:
        names = [name for name in self.rows[0] if "/" in name]
        means = ", ".join(f"{name} {self._mean(name):.4g}" for name in names)
        line = f"epoch {self.rows[0]['epoch'] + 1:.0f}: {means} (mean of {len(self.rows)})"
        clear = "\x1b[K" if self.stream.isatty() else ""  # the rest of a longer line
        self.stream.write(line + clear + end)
        self.stream.flush()
        self.shown = time.monotonic()

    def _mean(self, name: str) -> float:
        return sum(row[name] for row in self.rows) / len(self.rows)


class TensorBoard(Listener):
    """Writes the rows as scalars to one folder for each replica."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # needed by this class alone

        self.make_writer = SummaryWriter
        self.folders = [str(folder) for folder in folders]
        self.writers: dict[int, SummaryWriter] = {}

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        if replica not in self.writers:
            self.writers[replica] = self.make_writer(self.folders[replica])
        for name, value in row.items():
            if name != "epoch":
                self.writers[replica].add_scalar(name, value, int(row["epoch"]))

    def end(self) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers = {}
