"""Draw the pictures of the docs.

    python train.py -m model=mlp,siamese_mlp seed=0..9 data.watch_test=true
    python docs/make_pictures.py FOLDER

draws docs/images/overview.png: the table of a sweep beside its test error by seed and epoch.

    python train.py model=siamese_cnn -m seed=0..4
    python docs/make_pictures.py --demo FOLDER

draws docs/images/demo.png: the page of `python -m digitpairs.demo` after the test has drawn two
digits in it. FOLDER is the sweep's folder, which the table names.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from digitpairs.analysis.runs import names_of
from digitpairs.analysis.table import print_table
from digitpairs.names import Names

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "overview.png"
DEMO_PICTURE = ROOT / "docs" / "images" / "demo.png"
COLUMNS = 78  # of the terminal
METRIC = "test/comparison_error"
BACKGROUND, TEXT = "#1e1e2e", "#e6e6ef"


def main() -> None:
    """Draw the sweep in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--demo", action="store_true", help="the page to draw on")
    options = parser.parse_args()
    sweep = options.sweep
    if options.demo:
        photograph_demo(sweep)
        return
    runs = sorted(path.parent for path in sweep.glob("*/seed=*/result.json"))
    names = names_of(runs)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 3.4), width_ratios=(7.6, 5.4), layout="constrained"
    )
    draw_terminal(left, table_of(runs, names), command=command_of(runs))
    draw_curves(right, runs, names.of)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"{PICTURE} ({PICTURE.stat().st_size >> 10} kB)")


def photograph_demo(sweep: Path) -> None:
    """The page in a browser, light beside dark, after the strokes of the test."""
    sys.path.insert(0, str(ROOT))
    import digitpairs
    from digitpairs.use.examples import hard_examples
    from tests import test_demo

    comparer = digitpairs.load(sweep)
    examples = hard_examples(comparer, next(sweep.glob("**/seed=0")))
    pictures = []
    with test_demo.running_server(comparer, examples) as url, test_demo.open_browser() as browser:
        for scheme in ("light", "dark"):
            viewport = {"width": 800, "height": 900}
            page = browser.new_page(viewport=viewport, color_scheme=scheme)
            test_demo.draw_two_digits(page, url)
            page.wait_for_timeout(1000)  # the bars grow
            pictures.append(plt.imread(io.BytesIO(page.screenshot(full_page=True))))
    DEMO_PICTURE.parent.mkdir(exist_ok=True)
    plt.imsave(DEMO_PICTURE, np.concatenate(pictures, axis=1))
    print(f"{DEMO_PICTURE} ({DEMO_PICTURE.stat().st_size >> 10} kB)")


def command_of(runs: list[Path]) -> str:
    """The command whose table is drawn."""
    seeds = sorted(json.loads((run / "result.json").read_text())["seed"] for run in runs)
    grid = f"model=mlp,siamese_mlp seed={seeds[0]}..{seeds[-1]}"
    return f"$ python train.py -m {grid} data.watch_test=true"


def table_of(runs: list[Path], names: Names) -> str:
    """The table as the terminal shows it."""
    console = Console(file=io.StringIO(), width=COLUMNS)
    print_table(runs, console, names)
    return console.file.getvalue()


def draw_terminal(axes: plt.Axes, table: str, command: str) -> None:
    """Monospaced text on a dark background."""
    axes.set_axis_off()
    axes.add_patch(
        plt.Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=BACKGROUND, zorder=0)
    )
    axes.text(
        0.02, 0.93, f"{command}\n\n{table}", transform=axes.transAxes, color=TEXT,
        family="monospace", fontsize=10, va="top", linespacing=1.35,
    )  # fmt: skip


def draw_curves(axes: plt.Axes, runs: list[Path], names: dict[str, str]) -> None:
    """The test error by epoch: mean over the seeds, and a band of one standard deviation."""
    curves = defaultdict(list)
    for run in runs:
        with (run / "metrics.csv").open() as file:
            errors = [float(row[METRIC]) for row in csv.DictReader(file)]
        curves[names[run.parent.name]].append(errors)
    for name, errors in sorted(curves.items()):
        mean, std = np.mean(errors, 0), np.std(errors, 0, ddof=1)
        epochs = np.arange(1, len(mean) + 1)
        (line,) = axes.plot(epochs, mean, label=f"{name}, {len(errors)} seeds")
        axes.fill_between(epochs, mean - std, mean + std, color=line.get_color(), alpha=0.2)
    axes.set(xlabel="epoch", ylabel="test error of the comparison, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()


if __name__ == "__main__":
    main()
