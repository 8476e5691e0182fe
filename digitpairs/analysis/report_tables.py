"""The tables of a report's page in Markdown: its figures beside ours, claims, grids, choices."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from digitpairs.analysis.claims import (
    FAILS,
    HOLDS,
    Choices,
    Chosen,
    Verdict,
    on_common_seeds,
)
from digitpairs.analysis.reports import (
    COMPARISON_ERROR,
    Choice,
    Grid,
    Row,
    Scatter,
    Table,
    statistic_of,
)
from digitpairs.analysis.results import Cell, Study
from digitpairs.analysis.tables import markdown_table, number, signed

MISSING = "missing"
AGREES, DIFFERS = "agrees", "differs"
CLAIM_HEADS = [
    "claim",
    "where",
    "n",
    "ours",
    "difference by seed [95 % interval]",
    "first lower",
    "d_z",
    "test",
    "verdict",
]
Point = tuple[str, str]  # of a grid: the name of its line and its x


def _text_of_columns(columns: Sequence[Sequence[str]]) -> str:
    """A Markdown table of columns that begin with their heads."""
    heads, *rows = zip(*columns)
    return markdown_table(heads, rows)


def metric_table(table: Table, name: str, cells: Sequence[Cell]) -> str:
    """A column of the report's table beside ours, with the difference and a verdict of each row.

    Ours alone where the report has no figure of this column.
    """
    metric, statistic = statistic_of(table.columns[name])
    values = [_statistic(statistic, cell, cells[0]) for cell in cells]
    ours = [_statistic_text(statistic, cell, value) for cell, value in zip(cells, values)]
    columns = [["row", *(row.name for row in table.rows)]]
    if not any(name in row.report for row in table.rows):
        return _text_of_columns([*columns, [name, *ours]])
    reported = [figures(row.report.get(name, ())) for row in table.rows]
    columns += [[f"{name}: report", *reported], ["ours", *ours]]
    if (metric, statistic) != ("seconds", "mean"):  # two machines are not compared
        differences, verdicts = ["difference"], ["verdict"]
        for row, cell, value in zip(table.rows, cells, values):
            has_figure = name in row.report
            differences.append(signed(value - row.report[name][0]) if has_figure else "-")
            verdicts.append(_row_verdict(table, name, row, cell))
        columns += [differences, verdicts]
    return _text_of_columns(columns)


def scatter_table(scatter: Scatter, cells: Sequence[Sequence[Cell]]) -> str:
    """Both metrics of each row."""
    columns = [["row", *(row.name for row in scatter.rows)]]
    for (name, metric), values in zip(scatter.metrics.items(), cells):
        columns.append([name, *(_text_of(metric, cell) for cell in values)])
    return _text_of_columns(columns)


def _text_of(metric: str, cell: Cell) -> str:
    """Mean and standard deviation; the number of parameters is the same in all rounds."""
    return f"{cell.mean:,.0f}" if metric == "parameters" and cell.n else mean_std(cell)


def main_column(table: Table) -> str:
    """The column that a reader looks at first: of the test and the comparison, as far as it goes.

    Columns with figures of the report come before those without.
    """

    def rank(name: str) -> tuple[bool, bool, bool]:
        metric, statistic = statistic_of(table.columns[name])
        has_figures = any(name in row.report for row in table.rows)
        is_comparison = (metric, statistic) == (COMPARISON_ERROR, "mean")
        return not has_figures, not is_comparison, not metric.startswith("test/")

    return min(table.columns, key=rank)


def unexplained(table: Table, cells: Mapping[str, Sequence[Cell]]) -> list[str]:
    """The rows that differ in any column and have no reason."""
    return [
        row.name
        for index, row in enumerate(table.rows)
        if not row.why
        and any(_differs(table, name, row, column[index]) for name, column in cells.items())
    ]


def reasons(table: Table) -> str:
    """Each reason of a difference once, with the rows that it is of, as a list."""
    rows_by_reason: dict[str, list[str]] = {}
    for row in table.rows:
        if row.why:
            rows_by_reason.setdefault(row.why, []).append(row.name)
    return "\n".join(f"- {'; '.join(names)}: {why}" for why, names in rows_by_reason.items())


def _statistic(statistic: str, cell: Cell, first: Cell) -> float:
    """The column's statistic of a cell, nan without values; `first` is the column's first cell."""
    if statistic == "min":
        return min(cell.values.values(), default=math.nan)
    if statistic == "relative":
        return 100 * cell.mean / first.mean if first.n else math.nan
    return cell.mean


def _statistic_text(statistic: str, cell: Cell, value: float) -> str:
    if not cell.n or statistic == "mean":
        return mean_std(cell, with_n=cell.n < cell.expected)
    return MISSING if math.isnan(value) else f"{value:.2f}"


def _row_verdict(table: Table, name: str, row: Row, cell: Cell) -> str:
    _, statistic = statistic_of(table.columns[name])
    if name not in row.report or statistic != "mean" or not cell.n:
        return "-"
    return DIFFERS if _differs(table, name, row, cell) else AGREES


def _differs(table: Table, name: str, row: Row, cell: Cell) -> bool:
    """Whether the column compares means, and the row's differ by more than their spread."""
    metric, statistic = statistic_of(table.columns[name])
    if statistic != "mean" or metric == "seconds" or name not in row.report:
        return False
    return is_far(cell, row.report[name])


def is_far(cell: Cell, figure: Sequence[float]) -> bool:
    """Whether our mean differs from the report's by more than every known standard deviation.

    `figure` is the report's mean, and its standard deviation where it is known.
    """
    spreads = [std for std in (cell.std, *figure[1:]) if not math.isnan(std)]
    return bool(cell.n and spreads) and abs(cell.mean - figure[0]) > max(spreads)


# Grids


def grid_points(grid: Grid, study: Study) -> dict[Point, set[str]]:
    """The settings of each point of the grid."""
    points = {}
    for line in study.varied(grid.lines, grid.settings) if grid.lines else [""]:
        settings = {line, *grid.settings} if line else set(grid.settings)
        for x in study.varied(grid.x, settings):
            points[value_of(line), value_of(x)] = _best(study, grid, settings | {x})
    return points


def _best(study: Study, grid: Grid, settings: set[str]) -> set[str]:
    """The settings with the value of `best_over` whose mean of the grid's first metric is lowest.

    The values are compared on the seeds that all of them have.
    """
    if not grid.best_over:
        return settings
    metric = next(iter(grid.metrics.values()))
    options = study.varied(grid.best_over, settings)
    cells = on_common_seeds({option: study.cell(settings | {option}, metric) for option in options})
    return settings | {min(cells, key=lambda option: cells[option].mean, default=options[0])}


def axes_of(points: Mapping[Point, object]) -> tuple[list[str], list[str]]:
    """The names of the grid's lines and its values of x, in their order."""
    lines, xs = zip(*points)
    return list(dict.fromkeys(lines)), list(dict.fromkeys(xs))


def grid_tables(
    grid: Grid,
    chosen: Mapping[Point, set[str]],
    cells: Mapping[str, Mapping[Point, Cell]],
) -> list[str]:
    """For each metric a table with a row for each x and a column for each line."""
    lines, xs = axes_of(chosen)
    texts = []
    for name in grid.metrics:
        columns = [[grid.x, *xs]]
        for line in lines:
            column = [cells[name].get((line, x)) for x in xs]
            shown = ["" if cell is None else mean_std(cell, with_n=True) for cell in column]
            columns.append([f"{name}, {line}" if line else name, *shown])
        if grid.best_over:
            columns.append(_best_column(grid, chosen, lines, xs))
        texts.append(_text_of_columns(columns))
    return texts


def _best_column(
    grid: Grid, chosen: Mapping[Point, set[str]], lines: Sequence[str], xs: Sequence[str]
) -> list[str]:
    column = [f"best {grid.best_over}"]
    for x in xs:
        settings = itertools.chain.from_iterable(chosen[line, x] for line in lines)
        best = [value_of(each) for each in settings if each.startswith(f"{grid.best_over}=")]
        column.append(", ".join(best))
    return column


# Claims and choices


def differing_claims(verdicts: Sequence[Verdict]) -> str:
    """The claims that do not hold or are not decided; "" if all hold."""
    rows = [
        [verdict.claim.claim, _difference(verdict), f"**{_short(verdict)}**"]
        for verdict in sorted(verdicts, key=lambda each: each.verdict != FAILS)
        if verdict.verdict != HOLDS
    ]
    return markdown_table(["claim", "difference [95 % interval]", "verdict"], rows) if rows else ""


def claim_table(verdicts: Sequence[Verdict]) -> str:
    """All claims, with the tests behind their verdicts."""
    return markdown_table(CLAIM_HEADS, [_claim_row(verdict) for verdict in verdicts])


def _short(verdict: Verdict) -> str:
    return FAILS if verdict.verdict == FAILS else "not decided"


def _claim_row(verdict: Verdict) -> list[str]:
    claim, comparison = verdict.claim, verdict.comparison
    results = [MISSING, "-", "-", "-", "-"]
    if comparison.n:
        bound = f", bound {claim.within:g}" if claim.within else ""
        results = [
            _both_figures(verdict),
            _difference(verdict),
            f"{100 * comparison.less:.0f} %",
            signed(comparison.effect),
            p_text(verdict.p) + bound,
        ]
    return [claim.claim, claim.place, str(comparison.n), *results, f"**{verdict.verdict}**"]


def _both_figures(verdict: Verdict) -> str:
    first, second = map(_cell_of, (verdict.first, verdict.second))
    bound = verdict.claim.bound
    return f"{mean_std(first)} against {mean_std(second) if bound is None else f'{bound:g}'}"


def _difference(verdict: Verdict) -> str:
    """The mean difference with its interval, or the ratio of the spreads."""
    comparison = verdict.comparison
    if not comparison.n:
        return MISSING
    if verdict.claim.relation != "steadier":
        low, high = map(signed, comparison.interval)
        return f"{signed(comparison.difference)} [{low}, {high}]"
    first, second = map(_cell_of, (verdict.first, verdict.second))
    if comparison.n > 1 and second.std:
        return f"{first.std / second.std:.2f} times the standard deviation"
    return "-"


def _cell_of(values: Sequence[float]) -> Cell:
    return Cell(dict(enumerate(values)), len(values))


def choice_parts(choice: Choice, chosen: Choices, study: Study) -> list[str]:
    """What would be chosen, as a table, and how far the test flatters its own choice."""
    heads = [
        "chosen",
        "configuration",
        f"`{choice.by}`",
        f"`{choice.metric}`",
        "rank by the test",
    ]
    ways = (chosen.by_test, chosen.by_held_out, chosen.of_report)
    text = f"The report chose by {choice.chose_by}."
    if chosen.flattery.n > 1:
        error = chosen.flattery.std / math.sqrt(chosen.flattery.n)
        text += (
            " How far the test flatters the winner by the test: its held-out error less its test"
            f" error is {signed(chosen.flattery.mean)} points above the others' (standard error"
            f" {error:.2f})."
        )
    if chosen.by_test.test.n < chosen.by_test.test.expected:
        text += " Compared on the rounds that all configurations have."
    return [markdown_table(heads, [_choice_row(each, study) for each in ways]), text]


def choice_sentence(chosen: Choices, study: Study) -> str:
    """What held-out pairs choose, and what the report has chosen."""
    by_held_out = _named(chosen.by_held_out, study)
    text = f"Held-out pairs choose {by_held_out}, of rank {chosen.by_held_out.rank} by the test"
    if not chosen.of_report.rank:
        return f"{text}."
    of_report = _named(chosen.of_report, study)
    return f"{text}; the report chose {of_report}, of rank {chosen.of_report.rank}."


def _choice_row(chosen: Chosen, study: Study) -> list[str]:
    scores = [mean_std(cell, with_n=True) for cell in (chosen.held_out, chosen.test)]
    rank = str(chosen.rank) if chosen.rank else "-"
    return [chosen.how, _named(chosen, study), *scores, rank]


def _named(chosen: Chosen, study: Study) -> str:
    """The configuration, by the settings that vary in the study."""
    constant = frozenset.intersection(*(member.settings for member in study.members))
    return " ".join(sorted(f"`{setting}`" for setting in chosen.settings - constant))


# Cells


def mean_std(cell: Cell, with_n: bool = False) -> str:
    """Mean and standard deviation over the rounds, in words where there are none."""
    if not cell.n:
        return "-" if cell.finished else MISSING
    spread = "" if math.isnan(cell.std) else f" ± {number(cell.std)}"
    return f"{number(cell.mean)}{spread}" + (f" ({rounds(cell)})" if with_n else "")


def rounds(cell: Cell) -> str:
    """The number of rounds, and of how many if some are missing."""
    return f"n = {cell.n}" if cell.n == cell.expected else f"n = {cell.n} of {cell.expected}"


def figures(values: Sequence[float]) -> str:
    """The report's mean, and its standard deviation where there is one."""
    return " ± ".join(f"{value:.2f}" for value in values) or "-"


def p_text(value: float) -> str:
    """A p value in words."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def value_of(setting: str) -> str:
    """The value of a setting key=value."""
    return setting.partition("=")[2]


def plain(text: object) -> str:
    """Text of a result as a line of Markdown that shows it literally, without HTML and links."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return re.sub(r"[\\`*_\[\]<>&~#]", _escaped, " ".join(line.split()))


def _escaped(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], f"\\{match[0]}")
