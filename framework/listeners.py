"""Who hears of each epoch of each replica: a line on the terminal, TensorBoard's files."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from torch.utils.tensorboard import SummaryWriter


class Listener:
    """Base: hears nothing."""

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        """Called with each epoch's row of the history."""

    def end(self) -> None:
        """Called at the end of a fit, however it ends."""


class Progress(Listener):
    """One line: the epoch and the metrics' means over the replicas. On a terminal it is written over, elsewhere a new one comes every
    `seconds`, and at the end.
    """

    def __init__(self, stream: TextIO | None = None, seconds: float = 5.0) -> None:
        self.stream, self.seconds = stream or sys.stderr, seconds
        self.rows: list[Mapping[str, float]] = []
        self.shown = time.monotonic()

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        if self.rows and row["epoch"] != self.rows[0]["epoch"]:
            self.rows = []
        self.rows.append(row)
        if time.monotonic() - self.shown > (0.1 if self.stream.isatty() else self.seconds):
            self._show("\r" if self.stream.isatty() else "\n")

    def end(self) -> None:
        if self.rows:
            self._show("\n")
        self.rows = []

    def _show(self, end: str) -> None:
        names = [name for name in self.rows[0] if "/" in name]
        means = [
            f"{name} {sum(row[name] for row in self.rows) / len(self.rows):.4g}" for name in names
        ]
        line = (
            f"epoch {self.rows[0]['epoch'] + 1:.0f}: {', '.join(means)} (mean of {len(self.rows)})"
        )
        clear = "\x1b[K" if self.stream.isatty() else ""  # what a longer line has left
        self.stream.write(line + clear + end)
        self.stream.flush()
        self.shown = time.monotonic()


class TensorBoard(Listener):
    """Writes each row as scalars, below a folder for each replica."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [str(folder) for folder in folders]
        self.writers: dict[int, SummaryWriter] = {}

    def epoch(self, replica: int, row: Mapping[str, float]) -> None:
        if replica not in self.writers:
            self.writers[replica] = SummaryWriter(self.folders[replica])
        for name, value in row.items():
            if name != "epoch":
                self.writers[replica].add_scalar(name, value, int(row["epoch"]))

    def end(self) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers = {}
