"""The plots of a report's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from digitpairs.analysis.drawing import draw_epochs, plt
from digitpairs.analysis.reports import Epochs, Table, statistic_of, unit_of
from digitpairs.analysis.results import Cell, Study

OURS = {"label": "ours", "color": "tab:blue", "marker": "o", "markersize": 4, "capsize": 3}
REPORTS = OURS | {"label": "report", "color": "tab:orange", "marker": "s"}
ACROSS = 3  # panels, or metrics of a table, beside each other: more cannot be read
MANY = 20  # names on an axis
Points = dict[str, list[tuple[str, Cell]]]  # of each line: the label on the axis, and the runs


def plot_table(table: Table, cells: Mapping[str, Sequence[Cell]]) -> plt.Figure | None:
    """Each row's mean and standard deviation, the report's and ours (`cells`, by column); a panel for each column that shows means, three side
    by side. None without any runs.
    """
    panels = [name for name, column in table.columns.items() if statistic_of(column)[1] == "mean"]
    if not any(cell.n for name in panels for cell in cells[name]):
        return None
    height = 0.9 + 0.34 * len(table.rows)
    across, down = min(ACROSS, len(panels)), -(-len(panels) // ACROSS)
    size = (3.4 + 2.9 * across, height * down)
    figure, axes = plt.subplots(
        down, across, figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for unused in axes.flat[len(panels) :]:
        unused.set_axis_off()
    for panel, name in zip(axes.flat, panels):
        for line, (row, cell) in enumerate(zip(table.rows, cells[name])):
            if cell.n:
                panel.errorbar(cell.mean, line + 0.13, xerr=np.nan_to_num(cell.std), **OURS)
            if name in row.report:
                mean, *std = row.report[name]
                panel.errorbar(mean, line - 0.13, xerr=std or None, **REPORTS)
        panel.set_title(name, fontsize=9)
        panel.set(xlim=(0, None), xlabel=unit_of(statistic_of(table.columns[name])[0]))
        panel.grid(alpha=0.3)
    axes[0][0].set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    for first in axes[:, 0]:
        first.tick_params(axis="y", labelsize=8)
    axes[0][0].set_ylim(len(table.rows) - 0.5, -0.5)
    if any(name in row.report for name in panels for row in table.rows):
        handles = [
            plt.Line2D([], [], color=each["color"], marker=each["marker"], label=each["label"])
            for each in (REPORTS, OURS)
        ]
        figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure


def plot_grid(x: str, label: str, key: str, lines: Points) -> plt.Figure:
    """A metric, as `label` says, against a setting, mean and standard deviation over the rounds; joined by lines where the setting is a quantity.
    `key` is what the lines differ in. From 0 on, but for names so many that their differences would not be seen.
    """
    ticks = list(dict.fromkeys(tick for points in lines.values() for tick, _ in points))
    quantity = all(map(_is_number, ticks)) and not x.endswith("seed")
    figure, axes = plt.subplots(figsize=(max(6.2, 0.2 * len(ticks)), 3.4))
    for shift, (name, points) in enumerate(lines.items()):
        there = [
            (ticks.index(tick) + 0.06 * (shift - (len(lines) - 1) / 2), cell)
            for tick, cell in points
            if cell.n
        ]
        if not there:
            continue
        axes.errorbar(
            [place for place, _ in there],
            [cell.mean for _, cell in there],
            [np.nan_to_num(cell.std) for _, cell in there],
            label=name,
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1,
            linestyle="-" if quantity else "",
        )
    axes.set_xticks(
        range(len(ticks)), ticks, fontsize=8, rotation=90 if sum(map(len, ticks)) > 60 else 0
    )
    axes.set(xlabel=x, ylabel=label, ylim=(0 if quantity or len(ticks) < MANY else None, None))
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(
            fontsize=8, title=key, title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
        )
    return figure


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def plot_epochs(epochs: Epochs, study: Study) -> plt.Figure | None:
    """The metrics by epoch: mean over the rounds and a band of one standard deviation. None without any runs."""
    figure, axes = plt.subplots(
        1, len(epochs.metrics), figsize=(1.4 + 4.8 * len(epochs.metrics), 3.6), squeeze=False
    )
    for panel, (name, metric) in zip(axes[0], epochs.metrics.items()):
        for row in epochs.rows:
            draw_epochs(
                panel,
                [member.run for member in study.of(row.settings) if member.run is not None],
                metric,
                row.name,
            )
        panel.set(title=name, ylabel=unit_of(metric), ylim=(0, None))
    if not axes[0][0].lines:
        plt.close(figure)
        return None
    axes[0][-1].legend(fontsize=7)
    return figure
