"""The plots of a report's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from digitpairs.analysis.drawing import draw_epochs, panel_grid, plt
from digitpairs.analysis.reports import Epochs, Scatter, Table, statistic_of, unit_of
from digitpairs.analysis.results import Cell
from digitpairs.analysis.runs import Run

MARKER: dict[str, Any] = {"markersize": 4, "capsize": 3}
OURS = {"label": "ours", "color": "tab:blue", "marker": "o", **MARKER}
REPORTS = {"label": "report", "color": "tab:orange", "marker": "s", **MARKER}
MARKERS = "os^D"
ACROSS = 3  # panels of a plot, or metrics of a table, side by side
MANY = 20  # values on an axis
Lines = Mapping[str, Sequence[tuple[str, Cell]]]  # by the line's name: values on the axis, cells


def plot_table(table: Table, cells: Mapping[str, Sequence[Cell]]) -> plt.Figure | None:
    """Each row's mean and standard deviation, the report's beside ours; None without runs.

    Every column that shows means has a panel. `cells` are ours by column, one per row.
    """
    panels = [name for name, column in table.columns.items() if statistic_of(column)[1] == "mean"]
    if not any(cell.n for name in panels for cell in cells[name]):
        return None
    height = 0.9 + 0.34 * len(table.rows)
    figure, axes = panel_grid(
        len(panels), ACROSS, 2.9, height, margin=3.4, sharey=True, layout="constrained"
    )
    for panel, name in zip(axes.flat, panels):
        _draw_column(panel, table, name, cells[name])
    axes[0][0].set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    for leftmost in axes[:, 0]:
        leftmost.tick_params(axis="y", labelsize=8)
    axes[0][0].set_ylim(len(table.rows) - 0.5, -0.5)
    if any(name in row.report for name in panels for row in table.rows):
        keys = ("color", "marker", "label")
        handles = [
            plt.Line2D([], [], **{key: style[key] for key in keys}) for style in (REPORTS, OURS)
        ]
        figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure


def _draw_column(panel: plt.Axes, table: Table, name: str, cells: Sequence[Cell]) -> None:
    for line, (row, cell) in enumerate(zip(table.rows, cells)):
        if cell.n:
            panel.errorbar(cell.mean, line + 0.13, xerr=np.nan_to_num(cell.std), **OURS)
        if name in row.report:
            mean, *std = row.report[name]
            panel.errorbar(mean, line - 0.13, xerr=std or None, **REPORTS)
    panel.set_title(name, fontsize=9)
    panel.set(xlim=(0, None), xlabel=unit_of(statistic_of(table.columns[name])[0]))
    panel.grid(alpha=0.3)


def plot_grid(x: str, y_label: str, legend_title: str, lines: Lines) -> plt.Figure:
    """A metric against the setting `x`: mean and standard deviation over the rounds.

    The points of a line are joined where the values of `x` are quantities. The y axis starts at 0,
    except for many names: there the differences would be too small to see.
    """
    ticks = list(dict.fromkeys(tick for points in lines.values() for tick, _ in points))
    quantity = all(map(_is_number, ticks)) and not x.endswith("seed")
    figure, axes = plt.subplots(figsize=(max(6.2, 0.2 * len(ticks)), 3.4))
    for index, (name, points) in enumerate(lines.items()):
        run = [(tick, cell) for tick, cell in points if cell.n]
        if not run:
            continue
        shift = 0.06 * (index - (len(lines) - 1) / 2)
        axes.errorbar(
            [ticks.index(tick) + shift for tick, _ in run],
            [cell.mean for _, cell in run],
            [np.nan_to_num(cell.std) for _, cell in run],
            label=name,
            marker="o",
            linewidth=1,
            linestyle="-" if quantity else "",
            **MARKER,
        )
    rotation = 90 if sum(map(len, ticks)) > 60 else 0
    axes.set_xticks(range(len(ticks)), ticks, fontsize=8, rotation=rotation)
    axes.set(xlabel=x, ylabel=y_label, ylim=(0 if quantity or len(ticks) < MANY else None, None))
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        corner: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
        axes.legend(title=legend_title, fontsize=8, title_fontsize=8, **corner)
    return figure


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plot_epochs(epochs: Epochs, runs: Sequence[Sequence[Run]]) -> plt.Figure | None:
    """Metrics by epoch: the mean over the rounds and a band of one standard deviation.

    None without runs. `runs` are those of each row.
    """
    count = len(epochs.metrics)
    figure, axes = panel_grid(count, count, 4.8, 3.6, margin=1.4)
    for panel, (name, metric) in zip(axes[0], epochs.metrics.items()):
        for row, runs_of_row in zip(epochs.rows, runs):
            draw_epochs(panel, runs_of_row, metric, row.name)
        panel.set(title=name, ylabel=unit_of(metric), ylim=(0, None))
    if not axes[0][0].lines:
        plt.close(figure)
        return None
    axes[0][-1].legend(fontsize=7)
    return figure


def plot_scatter(scatter: Scatter, cells: Sequence[Sequence[Cell]]) -> plt.Figure | None:
    """The means of two metrics, and the Pareto front of those with lower values of both.

    The x axis is logarithmic. None without runs. `cells` are those of the first metric and those of
    the second, one per row.
    """
    figure, axes = plt.subplots(figsize=(6.2, 4.2))
    points = []
    for number, (row, x, y) in enumerate(zip(scatter.rows, *cells)):
        if x.n and y.n:
            points.append((x.mean, y.mean))
            style: dict[str, Any] = {
                "color": f"C{number % 10}",
                "marker": MARKERS[number // 10 % len(MARKERS)],
            }
            style |= {"label": row.name, "linestyle": "", **MARKER}
            axes.errorbar(x.mean, y.mean, np.nan_to_num(y.std), **style)
    if not points:
        plt.close(figure)
        return None
    front: dict[str, Any] = {"label": "Pareto front", "color": "tab:gray", "linewidth": 1}
    axes.step(*zip(*pareto_front(points)), where="post", zorder=0, **front)
    x_label, y_label = (
        ", ".join(filter(None, (name, unit_of(metric)))) for name, metric in scatter.metrics.items()
    )
    axes.set(xscale="log", xlabel=x_label, ylabel=y_label, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other has reached with values as low or lower in both, by the first."""
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front
