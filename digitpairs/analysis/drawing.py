"""Drawing that the plots of the disk and the plots of the reports share; it writes files only."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from digitpairs import files
from digitpairs.analysis.runs import Run


def save(figure: plt.Figure, path: Path, dpi: int) -> None:
    """Write the figure as PNG, atomically, and close it.

    The file holds no time of creation, so that equal results make equal files.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    files.write_atomically(path, picture.getvalue())


def literal(name: str) -> str:
    """The name with its dollars escaped: matplotlib reads text between dollars as a formula."""
    return name.replace("$", r"\$")


def panel_grid(
    count: int, across: int, width: float, height: float, margin: float = 0.0, **options: Any
) -> tuple[plt.Figure, np.ndarray]:
    """A figure of `count` panels, at most `across` of them in a row, and its axes (rows, columns).

    The width and height are those of a panel, in inches; `margin` is added to the figure's width.
    """
    columns = min(across, count)
    rows = -(-count // columns)
    size = (margin + width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for unused in axes.flat[count:]:
        unused.set_axis_off()
    return figure, axes


def draw_epochs(axes: plt.Axes, runs: Sequence[Run], metric: str, label: str) -> None:
    """Draw the metric by epoch: the mean over the runs and a band of one standard deviation.

    An epoch counts the runs that reached it. Without runs nothing is drawn. The caller sets the
    limits after the last curve, since setting one of an axis's limits fixes the other.
    """
    rounds = [[row[metric] for row in run.history] for run in runs]
    epochs = range(1, max(map(len, rounds), default=0) + 1)
    if not epochs:
        return
    values = [[errors[epoch - 1] for errors in rounds if len(errors) >= epoch] for epoch in epochs]
    mean = np.array([statistics.fmean(each) for each in values])
    std = np.array([statistics.stdev(each) if len(each) > 1 else 0.0 for each in values])
    (line,) = axes.plot(epochs, mean, label=f"{label} (n = {len(rounds)})", linewidth=1)
    low, high = np.maximum(mean - std, 0), mean + std
    axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.3)
