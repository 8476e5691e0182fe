"""The mean of each configuration's runs by epoch, as a further run of TensorBoard.

The run is in the folder `mean` beside the folders of the seeds. Its scalars are the means over the
seeds, and under `spread/` the means minus and plus one standard deviation, which CUSTOM SCALARS
shows as bands.
"""

from __future__ import annotations

import shutil
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
)

from digitpairs.dashboard.events import GROUPS, EventFile, layout_value, tag_of

MEAN = "mean"  # the name of the folder
SPREAD = "spread"
SECONDS = 10.0  # between two writings of a mean
SHARE = 0.05  # of the time since the start, at least, so that the files stay small

Row = Mapping[str, float]


class _Kept(NamedTuple):
    names: tuple[str, ...]
    values: array[float]


class MeanCurves:
    """Writes the means of one configuration, from its start until its last run has ended.

    Args:
        folder: of the configuration.
        histories: the rows of the runs that are finished, by run.
    """

    def __init__(self, folder: Path, histories: Mapping[int, Sequence[Row]]) -> None:
        self._folder = folder / MEAN
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}  # of metrics, each kept once
        self._rows: dict[int, list[_Kept]] = {
            run: [self._kept(row) for row in rows] for run, rows in histories.items()
        }
        self._file: EventFile | None = None
        self._started = self._written = time.monotonic()
        self._changed = bool(histories)

    def add(self, run: int, row: Row) -> None:
        """Add a run's row of an epoch. A run that begins again replaces its rows."""
        rows = self._rows.setdefault(run, [])
        del rows[int(row["epoch"]) :]
        rows.append(self._kept(row))
        self._changed = True
        now = time.monotonic()
        if now - self._written > max(SECONDS, SHARE * (now - self._started)):
            self.write()

    def drop(self, run: int) -> None:
        """Leave out a run that failed."""
        self._changed = self._rows.pop(run, None) is not None or self._changed

    def write(self) -> None:
        """Write the means of all epochs, if they have changed and there are several runs."""
        self._written = time.monotonic()
        if not self._changed or len(self._rows) < 2:
            return
        self._changed = False
        if self._file is None:
            shutil.rmtree(self._folder, ignore_errors=True)  # of an earlier launch
            self._folder.mkdir(parents=True)
            self._file = EventFile(self._folder)
            self._file.write(0, [layout_value(_layout(self._metrics()).SerializeToString())])
        self._file.rewrite_scalars(dict(self._means()))

    def _kept(self, row: Row) -> _Kept:
        """The row in a sixth of the memory."""
        names = self._names.setdefault(tuple(row), tuple(row))
        return _Kept(names, array("d", row.values()))

    def _metrics(self) -> list[str]:
        names = dict.fromkeys(metric for names in self._names for metric in names)
        return [name for name in names if name != "epoch"]

    def _means(self) -> Iterator[tuple[int, dict[str, float]]]:
        """For each epoch the values by tag."""
        for epoch in range(max(map(len, self._rows.values()))):
            collected: dict[str, list[float]] = defaultdict(list)
            for rows in self._rows.values():
                if epoch < len(rows):
                    for name, value in zip(*rows[epoch]):
                        collected[name].append(value)
            values: dict[str, float] = {}
            for name, numbers in collected.items():
                if name != "epoch":
                    values |= _mean_and_band(tag_of(name), np.array(numbers))
            yield epoch, values


def _mean_and_band(tag: str, numbers: np.ndarray) -> dict[str, float]:
    """The mean, and for errors and losses of several runs the ends of the band."""
    mean = float(numbers.mean())
    if len(numbers) < 2 or not tag.startswith(tuple(GROUPS.values())):
        return {tag: mean}
    spread = float(numbers.std(ddof=1))
    low, high = _band_tags(tag)
    return {tag: mean, low: mean - spread, high: mean + spread}


def _band_tags(tag: str) -> tuple[str, str]:
    return f"{SPREAD}/{tag}/low", f"{SPREAD}/{tag}/high"


def _layout(metrics: Sequence[str]) -> Layout:
    """A margin chart for each error and loss, in two categories."""
    tags = sorted(map(tag_of, metrics))
    return Layout(
        category=[
            Category(
                title=f"{group}: mean and standard deviation over the seeds",
                # TensorBoard shows the last chart of a category first.
                chart=[_chart(tag) for tag in reversed(tags) if tag.startswith(f"{group}/")],
            )
            for group in GROUPS.values()
        ]
    )


def _chart(tag: str) -> Chart:
    low, high = _band_tags(tag)
    series = MarginChartContent.Series(value=tag, lower=low, upper=high)
    return Chart(title=tag.partition("/")[2], margin=MarginChartContent(series=[series]))
