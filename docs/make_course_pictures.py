"""Draw the pictures of the course in docs/framework.

    python docs/make_course_pictures.py

writes docs/images/course-*.svg. The numbers are those of the chapters, whose code is run, and of
the table in docs/benchmarks.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "images"
FORWARD, BACKWARD, QUIET = "#1f6fb4", "#c4422b", "#6b6b76"
STYLE = {
    "svg.hashsalt": "course",  # else each drawing has other ids
    "font.size": 11,
    "mathtext.fontset": "cm",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",  # a card that is read on light and on dark pages
}


def main() -> None:
    """Draw all pictures."""
    with plt.rc_context(STYLE):
        for name, draw in {"chain": chain, "valley": valley, "replicas": replicas}.items():
            figure = draw()
            path = PICTURES / f"course-{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            print(f"{path} ({path.stat().st_size >> 10} kB)")


def chapter(name: str) -> dict[str, Any]:
    """What the code of a chapter defines."""
    sys.path.insert(0, str(ROOT))
    from tests.pages import run_page

    return run_page(ROOT / "docs" / "framework" / f"{name}.md")


def chain() -> plt.Figure:
    """The network of chapter 3: forward above, backward below, what is kept in the boxes."""
    tensors, gradients, weights = numbers_of(chapter("3-chain-rule"))
    titles = ["Linear", "ReLU", "Linear", "MSE"]
    kept = ["keeps x", "keeps h", "keeps h", "keeps y - t"]
    figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
    axes.set(xlim=(-0.75, 10.6), ylim=(-1.95, 1.75))
    axes.set_axis_off()
    for i, (title, keeps) in enumerate(zip(titles, kept)):
        box = plt.Rectangle((0.75 + 2.5 * i, -0.62), 1.3, 1.24, fc="#f1f3f8", ec=QUIET, lw=1.2)
        axes.add_patch(box)
        axes.text(1.4 + 2.5 * i, 0.2, title, ha="center", va="center", weight="bold")
        axes.text(1.4 + 2.5 * i, -0.24, keeps, ha="center", va="center", fontsize=10)
    for i, (name, value) in enumerate(tensors.items()):
        arrow(axes, (-0.45 + 2.5 * i, 0.38), (0.7 + 2.5 * i, 0.38), FORWARD)
        axes.text(0.12 + 2.5 * i, 0.78, f"{name} = {value}", color=FORWARD, ha="center")
    for i, (name, value) in enumerate(gradients.items()):
        arrow(axes, (0.7 + 2.5 * i, -0.38), (-0.45 + 2.5 * i, -0.38), BACKWARD)
        axes.text(0.12 + 2.5 * i, -0.98, f"{name} = {value}", color=BACKWARD, ha="center")
    for i, (name, value) in zip((0, 2), weights.items()):
        arrow(axes, (1.4 + 2.5 * i, -0.66), (1.4 + 2.5 * i, -1.3), BACKWARD)
        axes.text(1.4 + 2.5 * i, -1.62, f"{name} += {value}", color=BACKWARD, ha="center")
    axes.text(-0.6, 1.42, "forward", color=FORWARD, weight="bold")
    axes.text(10.5, -1.62, "backward", color=BACKWARD, weight="bold", ha="right")
    axes.text(9.68, 0.38, "L = 1", color=FORWARD, va="center")
    axes.text(9.68, -0.38, "dL = 1", color=BACKWARD, va="center")
    return figure


def numbers_of(chapter: dict[str, Any]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The tensors between the layers of chapter 3, their gradients and those of the weights."""
    network, loss = chapter["small_network"](), chapter["loss"]
    tensors = {"x": chapter["x"]}
    for before, name, layer in zip("xah", "ahy", network):
        tensors[name] = layer.forward(tensors[before])
    loss.forward(tensors["y"], chapter["t"])
    gradients = {"dy": loss.backward()}
    for after, name, layer in zip(("dy", "dh", "da"), ("dh", "da", "dx"), reversed(list(network))):
        gradients[name] = layer.backward(gradients[after])
    gradients = dict(reversed(gradients.items()))
    weights = {"dW1": network[0].weight.grad, "dW2": network[2].weight.grad}
    parts = (tensors, gradients, weights)
    return tuple({name: written(value[0]) for name, value in part.items()} for part in parts)


def written(values: Any) -> str:
    """The numbers of a matrix, without the brackets of a single row."""
    rows = [[f"{value:g}" for value in row] for row in values.tolist()]
    if len(rows) == 1:
        return rows[0][0] if len(rows[0]) == 1 else f"[{', '.join(rows[0])}]"
    return "[" + ", ".join(f"[{', '.join(row)}]" for row in rows) + "]"


def arrow(axes: plt.Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """An arrow without text."""
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.8}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def valley() -> plt.Figure:
    """The ways of chapter 6, each on the contours of its valley."""
    names = chapter("6-optimisers-and-replicas")
    shared = {"sharex": True, "sharey": True, "layout": "constrained"}
    figure, grid = plt.subplots(2, 2, figsize=(10, 5.2), **shared)
    contours = {"levels": np.geomspace(0.1, 40, 10), "colors": "#c3c7d4", "linewidths": 0.8}
    x, y = np.meshgrid(np.linspace(-4.6, 1.6, 200), np.linspace(-1.9, 1.9, 200))
    for axes, (name, (make, settings)) in zip(grid.flat, names["WAYS"].items()):
        path = np.array(names["descend"](make, **settings))
        axes.contour(x, y, (x**2 + 20 * y**2) / 2, **contours)
        axes.plot(*path.T, color=FORWARD, lw=1.4, marker="o", ms=3)
        axes.plot(*path[0], "o", color=BACKWARD, ms=7)
        axes.plot(0, 0, "+", color="black", ms=11, mew=1.6)
        axes.set_title(name, fontsize=11)
    for axes in grid[1]:
        axes.set_xlabel("x, along the valley")
    for axes in grid[:, 0]:
        axes.set_ylabel("y, across")
    return figure


def replicas() -> plt.Figure:
    """The cost of a step of ten networks in steps of one, from the table of the benchmarks."""
    table = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| (\w+), (\d+) \| \d+ \| ([\d.]+) \([^|]*\| ([\d.]+) \(", re.MULTILINE)
    costs = {  # one network is `single` times as fast as torch.nn, and ten are `ten` times as fast
        f"{name}, batch {batch}": 10 * float(single) / float(ten)
        for name, batch, single, ten in row.findall(table)
    }
    costs = dict(sorted(costs.items(), key=lambda item: item[1])) | {"one after another": 10.0}
    figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
    colors = [FORWARD] * (len(costs) - 1) + ["#b9bdc9"]
    bars = axes.barh(list(costs), list(costs.values()), color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=4)
    axes.invert_yaxis()
    axes.set(xlim=(0, 11), xlabel="a step of ten networks, in steps of one network")
    return figure


if __name__ == "__main__":
    main()
