"""Plot a sweep on the disk from the files in its folder.

    python -m digitpairs.analysis.disk_plots outputs/task=disk-d60b811d

The command writes PNG files into that folder and prints their paths: the labelled points and the
decision boundary by epoch, both of one run; loss and error by epoch with a band over the rounds;
and the error against the width, where the configurations differ in it alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digitpairs import files
from digitpairs.analysis.drawing import draw_epochs, literal, panel_grid, plt, save
from digitpairs.analysis.runs import Run, configs_of, finished_runs, names_of, undamaged
from digitpairs.analysis.table import mean_std_half_width
from digitpairs.cli import exit_on_error, show_own_warnings_plainly
from digitpairs.records import read_boundary
from digitpairs.terminal import make_output_robust

Runs = dict[str, list[Run]]  # finished runs by the name of their configuration
Boundary = Mapping[str, np.ndarray]  # see `read_boundary`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for a folder without finished runs of the disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="the sweep's folder, as printed below its table")
    sweep = parser.parse_args(arguments).sweep
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        runs = runs_of_the_disk(sweep)
        if not runs:
            accepted = "a folder with finished runs of task=disk"
            print(f"sweep={sweep} is not accepted: {accepted}", file=sys.stderr)
            return 2
        for name, figure in figures(runs).items():
            save(figure, sweep / f"{name}.png", dpi=120)
            print(sweep / f"{name}.png")
    return 0


def runs_of_the_disk(sweep: Path) -> Runs:
    """The finished runs of the sweep by configuration."""
    runs: Runs = defaultdict(list)
    for run in finished_runs(sweep, "*/seed=[0-9]*"):
        if run.result["source"] == "disk":
            runs[run.folder.parent.name].append(run)
    names = names_of([run.folder for group in runs.values() for run in group])
    return {names.of[folder]: group for folder, group in runs.items()}


def figures(runs: Runs) -> dict[str, plt.Figure]:
    """All figures for which there are data, by the name of their file."""
    figures = {"curves": plot_curves(runs)}
    first = first_boundary(runs)
    if first is not None:
        figures |= {"points": plot_points(*first), "boundary": plot_boundary(*first)}
    errors = errors_by_width(runs)
    if len(errors) > 1:
        figures["width"] = plot_width(errors)
    return figures


def first_boundary(runs: Runs) -> tuple[str, Boundary] | None:
    """The first readable boundary, with the name of its run; None where no run has one."""
    names = {}
    for name, group in runs.items():
        for run in group:
            if (run.folder / files.BOUNDARY).exists():
                names[run.folder] = f"{name} {run.folder.name}"
    boundaries = undamaged(names, lambda folder: (names[folder], read_boundary(folder)))
    return next(iter(boundaries), None)


def plot_points(name: str, boundary: Boundary) -> plt.Figure:
    """The labelled training points of one run."""
    figure, axes = plt.subplots(figsize=(4, 4))
    _draw_points(axes, boundary, size=6)
    title = f"{len(boundary['points'])} training points\n{literal(name)}"
    axes.set_title(title, fontsize=9)
    return figure


def plot_boundary(name: str, boundary: Boundary) -> plt.Figure:
    """The area that one run's network predicts as inside, by epoch, with the disk's edge."""
    epochs = boundary["epochs"]
    figure, axes = panel_grid(len(epochs), across=4, width=2.6, height=2.8)
    for panel, epoch, inside in zip(axes.flat, epochs, boundary["inside"]):
        panel.imshow(inside, origin="lower", extent=(0, 1, 0, 1), cmap="Greys", vmin=0, vmax=4)
        _draw_points(panel, boundary, size=1)
        plural = "s" if epoch > 1 else ""
        final = ", final" if epoch == epochs[-1] else ""
        panel.set_title(f"after {epoch} epoch{plural}{final}", fontsize=9)
    title = f"Predicted inside, and the disk's edge\n{literal(name)}"
    figure.suptitle(title, fontsize=10, y=1.02)
    return figure


def plot_curves(runs: Runs) -> plt.Figure:
    """Loss and error by epoch: the mean over the rounds and a band of one standard deviation."""
    figure, (losses, errors) = plt.subplots(1, 2, figsize=(10, 3.6))
    for axes, metric, title in (
        (losses, "train/loss", "training loss"),
        (errors, "train/error", "training error, %"),
    ):
        for name, group in runs.items():
            draw_epochs(axes, group, metric, literal(name))
        axes.set(title=title, ylim=(0, None))
    errors.legend(fontsize=7)
    return figure


def errors_by_width(runs: Runs) -> dict[int, list[float]]:
    """Test errors in per cent by the width of the widest hidden layer.

    Empty where the configurations differ in another setting than the hidden layers.
    """
    errors: dict[int, list[float]] = {}
    other_settings = set()
    for group in runs.values():
        (config,) = configs_of(run.folder for run in group).values()
        if config is None or not isinstance(config["model"].get("hidden"), list):
            return {}
        width = max(config["model"].pop("hidden"), default=0)
        errors[width] = [run.result["test/error"] for run in group]
        other_settings.add(json.dumps(_without_seeds(config), sort_keys=True))
    return errors if len(other_settings) == 1 and len(errors) == len(runs) else {}


def _without_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in config.items() if key not in ("seed", "seeds")}
    data = {key: value for key, value in config["data"].items() if not key.endswith("seed")}
    return {**settings, "data": data}


def plot_width(errors: Mapping[int, Sequence[float]]) -> plt.Figure:
    """The mean test error against the width, with 95 % confidence intervals."""
    figure, axes = plt.subplots(figsize=(5, 3.6))
    widths = sorted(errors)
    means, _, half_widths = zip(*(mean_std_half_width(errors[width]) for width in widths))
    axes.errorbar(widths, means, np.nan_to_num(half_widths), marker="o", capsize=3)
    axes.set(
        xscale="symlog" if widths[0] == 0 else "log",
        xlabel="units of the widest hidden layer",
        ylabel="test error, %",
        ylim=(0, None),
    )
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_title(f"n = {' '.join(str(len(errors[width])) for width in widths)}", fontsize=9)
    return figure


def _draw_points(axes: plt.Axes, boundary: Boundary, size: float) -> None:
    """Draw the training points, coloured by label, and the edge of the disk."""
    x, y = boundary["points"].T
    colours = np.where(boundary["labels"] == 1, "tab:blue", "tab:orange")
    axes.scatter(x, y, s=size, c=colours, linewidths=0)
    axes.add_patch(plt.Circle((0.5, 0.5), 1 / np.sqrt(2 * np.pi), fill=False, linewidth=0.8))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])


if __name__ == "__main__":
    sys.exit(main())
