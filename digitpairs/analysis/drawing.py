"""What the plots of a sweep on the disk and those of a report have in common. Draws into files, wherever it runs."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from digitpairs import files
from digitpairs.analysis.runs import Run


def save(figure: plt.Figure, path: Path, dpi: int) -> None:
    """As PNG, whole or not at all, without the time of its making: equal results, equal files. Closes the figure."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    files.write_atomically(path, picture.getvalue())


def literal(name: str) -> str:
    """A name as matplotlib shows it, to which dollars are the signs of a formula."""
    return name.replace("$", r"\$")


def draw_epochs(axes: plt.Axes, runs: Sequence[Run], metric: str, label: str) -> None:
    """The metric by epoch: mean over the runs, those still going, and a band of one standard deviation; nothing without any runs.

    Limits are for the caller to set, when all is drawn: setting one fixes the other.
    """
    rounds = [[row[metric] for row in run.history] for run in runs]
    epochs = range(1, max(map(len, rounds), default=0) + 1)
    values = [[each[epoch - 1] for each in rounds if len(each) >= epoch] for epoch in epochs]
    if not values:
        return
    mean = np.array([statistics.fmean(each) for each in values])
    std = np.array([statistics.stdev(each) if len(each) > 1 else 0.0 for each in values])
    (line,) = axes.plot(epochs, mean, label=f"{label} (n = {len(rounds)})", linewidth=1)
    axes.fill_between(
        epochs,
        np.maximum(mean - std, 0),
        mean + std,
        color=line.get_color(),
        alpha=0.2,
        linewidth=0,
    )
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.3)
