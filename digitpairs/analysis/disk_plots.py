"""Plots of a sweep on the disk, out of the files in its folder.

    python -m digitpairs.analysis.disk_plots outputs/task=disk-d60b811d

writes PNGs into that folder and says which: the points with their labels and the decision boundary over the training of the first seed,
loss and error by epoch with a band over the rounds, and, where configurations differ in their width, the error against it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from digitpairs import files
from digitpairs.analysis.drawing import draw_epochs, literal, plt, save
from digitpairs.names import display_names
from digitpairs.analysis.runs import Run, configs_of, finished_runs, undamaged
from digitpairs.analysis.table import mean_std_half_width
from digitpairs.cli import exit_on_error, show_own_warnings_plainly
from digitpairs.records import read_boundary
from digitpairs.terminal import make_output_robust

Runs = dict[str, list[Run]]  # each configuration's finished runs, by its name
Boundary = Mapping[str, np.ndarray]  # see `read_boundary`


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 2 for a folder without finished runs of the disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="a sweep's folder, the one that its table names")
    sweep = parser.parse_args(arguments).sweep
    make_output_robust()
    show_own_warnings_plainly()
    with exit_on_error():
        runs = runs_of_the_disk(sweep)
        if not runs:
            print(
                f"sweep={sweep} is not accepted: a folder with finished runs of task=disk",
                file=sys.stderr,
            )
            return 2
        for name, figure in figures(runs).items():
            save(figure, sweep / f"{name}.png", dpi=120)
            print(sweep / f"{name}.png")
    return 0


def runs_of_the_disk(sweep: Path) -> Runs:
    """The sweep's finished runs."""
    runs: Runs = defaultdict(list)
    for run in finished_runs(sweep, "*/seed=[0-9]*"):
        if run.result["source"] == "disk":
            runs[run.folder.parent.name].append(run)
    names = display_names(configs_of(run.folder for each in runs.values() for run in each))
    return {names.of[folder]: each for folder, each in runs.items()}


def figures(runs: Runs) -> dict[str, plt.Figure]:
    """By name."""
    drawn = {"curves": curves(runs)}
    first = first_boundary(runs)
    if first is not None:
        drawn |= {"points": points(*first), "boundary": boundary(*first)}
    errors = errors_by_width(runs)
    return drawn | ({"width": width(errors)} if len(errors) > 1 else {})


def first_boundary(runs: Runs) -> tuple[str, Boundary] | None:
    """The name of the first run that left a boundary which can be read, and this boundary."""
    names = {run.folder: f"{name} {run.folder.name}" for name, each in runs.items() for run in each}
    there = [folder for folder in names if (folder / files.BOUNDARY).exists()]
    return next(iter(undamaged(there, lambda folder: (names[folder], read_boundary(folder)))), None)


def points(name: str, read: Boundary) -> plt.Figure:
    """The training points of one run with their labels."""
    figure, axes = plt.subplots(figsize=(4, 4))
    _scatter(axes, read["points"], read["labels"], size=6)
    axes.set_title(f"{len(read['points'])} training points\n{literal(name)}", fontsize=9)
    return figure


def boundary(name: str, read: Boundary) -> plt.Figure:
    """What the network of one run holds for the inside, epoch by epoch, with the disk's edge."""
    count = len(read["epochs"])
    columns = min(4, count)
    figure, axes = plt.subplots(
        -(-count // columns),
        columns,
        figsize=(2.6 * columns, 2.8 * -(-count // columns)),
        squeeze=False,
    )
    for each in axes.flat[count:]:
        each.set_axis_off()
    for each, epoch, inside in zip(axes.flat, read["epochs"], read["inside"]):
        each.imshow(inside, origin="lower", extent=(0, 1, 0, 1), cmap="Greys", vmin=0, vmax=4)
        _scatter(each, read["points"], read["labels"], size=1)
        each.set_title(
            f"after {epoch} epoch{'s' if epoch > 1 else ''}{', final' if epoch == read['epochs'][-1] else ''}",
            fontsize=9,
        )
    figure.suptitle(
        f"Held for the inside, and the disk's edge\n{literal(name)}", fontsize=10, y=1.02
    )
    return figure


def curves(runs: Runs) -> plt.Figure:
    """Loss and error by epoch: mean over the rounds, those still going, and a band of one standard deviation."""
    figure, (losses, errors) = plt.subplots(1, 2, figsize=(10, 3.6))
    for axes, metric, title in (
        (losses, "train/loss", "training loss"),
        (errors, "train/error", "training error, %"),
    ):
        for name, each in runs.items():
            draw_epochs(axes, each, metric, literal(name))
        axes.set(title=title, ylim=(0, None))
    errors.legend(fontsize=7)
    return figure


def errors_by_width(runs: Runs) -> dict[int, list[float]]:
    """Test errors in per cent by the width of the widest hidden layer; empty where configurations differ in something else as well."""
    errors: dict[int, list[float]] = {}
    others = set()
    for each in runs.values():
        (config,) = configs_of(run.folder for run in each).values()
        if config is None or not isinstance(config["model"].get("hidden"), list):
            return {}
        errors[max(config["model"].pop("hidden"), default=0)] = [
            run.result["test/error"] for run in each
        ]
        config["data"] = {
            key: value for key, value in config["data"].items() if not key.endswith("seed")
        }
        others.add(
            json.dumps(
                {key: value for key, value in config.items() if key not in ("seed", "seeds")},
                sort_keys=True,
            )
        )
    return errors if len(others) == 1 and len(errors) == len(runs) else {}


def width(errors: dict[int, list[float]]) -> plt.Figure:
    """Mean test error against the width, with 95 % confidence intervals."""
    figure, axes = plt.subplots(figsize=(5, 3.6))
    widths = sorted(errors)
    rows = [mean_std_half_width(errors[each]) for each in widths]
    axes.errorbar(
        widths,
        [row[0] for row in rows],
        [np.nan_to_num(row[2]) for row in rows],
        marker="o",
        capsize=3,
    )
    axes.set(
        xscale="symlog" if widths[0] == 0 else "log",
        xlabel="units of the widest hidden layer",
        ylabel="test error, %",
        ylim=(0, None),
    )
    axes.set_xticks(widths, [str(each) for each in widths])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_title(f"n = {' '.join(str(len(errors[each])) for each in widths)}", fontsize=9)
    return figure


def _scatter(axes: plt.Axes, places: np.ndarray, labels: np.ndarray, size: float) -> None:
    axes.scatter(*places.T, s=size, c=np.where(labels == 1, "tab:blue", "tab:orange"), linewidths=0)
    axes.add_patch(plt.Circle((0.5, 0.5), 1 / np.sqrt(2 * np.pi), fill=False, linewidth=0.8))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])


if __name__ == "__main__":
    sys.exit(main())
