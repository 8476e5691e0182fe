"""The state of a running sweep: how far its runs are, and what they have reached.

`SweepState` collects it from the runs' events. A `Snapshot` is what the progress display and
`python -m digitpairs.status` show of it.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# What is shown, the first that exists.
ERRORS = tuple(
    f"{split}/{error}"
    for error in ("comparison_error", "error")
    for split in ("validation", "train")
)

Row = Mapping[str, float]


class RunPlan(NamedTuple):
    """One run of a sweep."""

    configuration: str  # its display name
    seed: int
    epochs: int  # at most


class Progress(NamedTuple):
    """The runs of one configuration."""

    configuration: str
    runs: int
    done: int  # failed ones as well
    failed: int
    epoch: int | None  # after which the error was measured; None before the first
    metric: str | None
    mean: float | None  # of the error in per cent
    std: float | None  # ddof 1; None for a single run


class Snapshot(NamedTuple):
    """The state of a sweep at a moment."""

    runs: int
    done: int
    failed: int
    epochs: int
    epochs_in_all: int
    seconds: float  # since the start
    seconds_left: float | None  # None before the first epoch
    memory: int | None  # bytes of all processes; None where the system does not say
    configurations: Sequence[Progress]


class SweepState:
    """Collects the events of runs, which have the indices of their plans."""

    def __init__(self, runs: Sequence[RunPlan]) -> None:
        self.runs = runs
        self.failed: set[int] = set()
        self.done: set[int] = set()  # failed ones as well
        self._rows: dict[int, Row] = {}  # the last row of each run
        self._started = time.monotonic()
        self._indices: dict[str, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            self._indices[run.configuration].append(index)

    def epoch(self, index: int, row: Row) -> None:
        """Keep a run's row of an epoch."""
        self._rows[index] = row

    def ended(self, index: int, failure: str | None) -> None:
        """Keep how a run ended."""
        self.done.add(index)
        if failure is not None:
            self.failed.add(index)

    def snapshot(self) -> Snapshot:
        """The state now."""
        epochs = sum(map(self._epochs_of, range(len(self.runs))))
        in_all = sum(run.epochs for run in self.runs)
        seconds = time.monotonic() - self._started
        return Snapshot(
            runs=len(self.runs),
            done=len(self.done),
            failed=len(self.failed),
            epochs=epochs,
            epochs_in_all=in_all,
            seconds=seconds,
            seconds_left=seconds * (in_all - epochs) / epochs if epochs else None,
            memory=memory_in_use(),
            configurations=[self._progress(name) for name in self._indices],
        )

    def _epochs_of(self, index: int) -> int:
        """The epochs that the run has behind it; one that ended early has none before it."""
        if index in self.done:
            return self.runs[index].epochs
        return int(self._rows[index]["epoch"]) + 1 if index in self._rows else 0

    def _progress(self, configuration: str) -> Progress:
        indices = self._indices[configuration]
        done = self.done.intersection(indices)
        rows = self._comparable_rows(indices)
        metric = next((name for name in ERRORS if any(name in row for row in rows)), None)
        errors = [row[metric] for row in rows if metric in row] if metric else []
        return Progress(
            configuration,
            runs=len(indices),
            done=len(done),
            failed=len(self.failed.intersection(indices)),
            epoch=max((int(row["epoch"]) + 1 for row in rows), default=None),
            metric=metric,
            mean=statistics.fmean(errors) if errors else None,
            std=statistics.stdev(errors) if len(errors) > 1 else None,
        )

    def _comparable_rows(self, indices: Sequence[int]) -> list[Row]:
        """The last rows of the finished runs; before the first, those of the runs in training."""
        succeeded = self.done - self.failed
        finished = [index for index in indices if index in succeeded]
        return [self._rows[index] for index in finished or indices if index in self._rows]


def memory_in_use() -> int | None:
    """The memory of this process and its workers in bytes; shared memory counts once."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    try:
        return sum(_proportional_memory(process) for process in processes)
    except OSError:  # not Linux, or a worker has just ended
        return None


def _proportional_memory(process: int | None) -> int:
    with open(f"/proc/{process}/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
