"""A report's page in Markdown: the report's figures beside ours, verdicts on its claims, plots.

Everything on the page is computed from the runs' files.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from digitpairs import files, records
from digitpairs.analysis.claims import (
    FAILS,
    HOLDS,
    Chosen,
    Verdict,
    choices,
    final_verdict,
    on_common_seeds,
    verdicts,
)
from digitpairs.analysis.drawing import plt, save
from digitpairs.analysis.report_plots import ACROSS, plot_epochs, plot_grid, plot_table
from digitpairs.analysis.reports import (
    Choice,
    Epochs,
    Grid,
    Report,
    Row,
    Show,
    Table,
    statistic_of,
    unit_of,
)
from digitpairs.analysis.results import Cell, Results, Study
from digitpairs.analysis.runs import Run
from digitpairs.arguments import command_name

MISSING, NOT_RUN = "missing", "Not run yet."
FIGURES = (
    "Figures are means ± standard deviations (ddof 1) over the rounds, errors in per cent unless"
    " said; n is the number of rounds."
)
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
TESTS = (
    "Compared seed by seed: BCa bootstrap intervals, each for itself; the share of seeds whose"
    " first value is lower; the effect d_z; two-sided sign-flip tests of the mean difference"
    " (against the bound, where there is one) or, for what is steadier, of the deviations from the"
    " medians; p adjusted over the claims on one study (Holm). *holds*: significant at 5 %; *does"
    " not hold*: the opposite is; otherwise *not decided*; nothing is below 6 seeds."
)
FINALS = "At least as good as the report's, to within one standard error of the difference:"
FINAL_HEADS = ["final model", "where", "n", "report", "ours", "standard error", "at least as good"]
Point = tuple[str, str]  # of a grid: the name of its line and its x


class Page(NamedTuple):
    """A report's page and its summary.

    `outcome` has the number of runs, of claims that hold, that do not hold and that are not
    decided, and of final models that are as good as the report's.
    """

    text: str
    outcome: list[str]


def write_page(report: Report, name: str, results: Results, folder: Path) -> Page:
    """Write `<name>.md` and its plots `<name>-*.png` into the folder."""
    page = _Page(report, name, results, folder)
    text = page.text()
    files.write_atomically(folder / f"{name}.md", text)
    return Page(text, page.outcome())


class _Page:
    def __init__(self, report: Report, name: str, results: Results, folder: Path) -> None:
        self.report, self.name, self.results, self.folder = report, name, results, folder
        self.reported: set[str] = set()  # studies whose missing runs are on the page
        self.verdicts = verdicts(results, report.claims)
        self.finals = []
        for final in report.finals:
            cell = results.study(final.study).cell(final.settings, final.metric)
            self.finals.append((final, cell, *final_verdict(cell, final)))
        self.studies = [results.study(study) for study in report.studies]

    def text(self) -> str:
        parts = [f"# {self.report.title}", self.report.about.strip(), self._provenance()]
        parts += ["## Claims", *self._claims(), *self._finals()]
        for show in self.report.shows:
            studies = " and ".join(f"study `{study}`" for study in show.studies)
            parts += [f"## {show.title}", f"{show.place}; {studies}."]
            content = self._content(show, self.results.study(show.study))
            parts += [part for part in content if part] or [NOT_RUN]
            parts += [show.note, *map(self._unfinished, show.studies)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def outcome(self) -> list[str]:
        finished = sum(len(study.runs) for study in self.studies)
        expected = sum(len(study.members) for study in self.studies)
        claims = [verdict.verdict for verdict in self.verdicts]
        holds, fails = claims.count(HOLDS), claims.count(FAILS)
        finals = [verdict for final, *_, verdict in self.finals if not final.other_reading]
        return [
            f"{finished} of {expected}",
            str(holds),
            str(fails),
            str(len(claims) - holds - fails),
            f"{finals.count(HOLDS)} of {len(finals)}",
        ]

    # The sections of the page

    def _provenance(self) -> str:
        rows = []
        for study in self.studies:
            count = f"{len(study.runs)} of {len(study.members)}"
            duration = _duration(sum(run.result["seconds"] for run in study.runs))
            commits = ", ".join(_entries(study.runs, "commit")) or "-"
            rows.append([f"`{study.name}`", count, duration, commits])
        command = " ".join([command_name(), "experiment=<study>", *self.results.overrides])
        runs = [run for study in self.studies for run in study.runs]
        text = f"Each study is run by `{command}`.{_origin(runs)} {FIGURES}"
        return f"{text}\n\n{table_text(['study', 'runs', 'time of all runs', 'commit'], rows)}"

    def _claims(self) -> list[str]:
        notes = [f"- {claim.claim}: {claim.note}" for claim in self.report.claims if claim.note]
        rows = [_claim_row(verdict) for verdict in self.verdicts]
        return [table_text(CLAIM_HEADS, rows), "\n".join(notes), TESTS]

    def _finals(self) -> list[str]:
        rows = []
        for final, cell, error, verdict in self.finals:
            name = f"another reading: {final.final}" if final.other_reading else final.final
            figures = [_figures(final.report[:2]), _mean_std(cell)]
            error_text = "-" if math.isnan(error) else f"{error:.2f}"
            rows.append([name, final.place, _n(cell), *figures, error_text, f"**{verdict}**"])
        return [FINALS, table_text(FINAL_HEADS, rows)] if rows else []

    def _content(self, show: Show, study: Study) -> list[str]:
        if isinstance(show, Table):
            return self._table(show, study)
        if isinstance(show, Grid):
            return self._grid(show, study)
        if isinstance(show, Epochs):
            return [self._plot(show.epochs, plot_epochs(show, study))]
        return self._choice(show, study)

    def _table(self, table: Table, study: Study) -> list[str]:
        cells = {}
        for name, column in table.columns.items():
            metric, _ = statistic_of(column)
            cells[name] = [study.cell(row.settings, row.metric(metric)) for row in table.rows]
        plot = self._plot(table.table, plot_table(table, cells))
        return [*_table_texts(table, cells), *_differences_explained(table, cells), plot]

    def _grid(self, grid: Grid, study: Study) -> list[str]:
        chosen = _points(grid, study)
        cells: dict[str, dict[Point, Cell]] = {}
        for name, metric in grid.metrics.items():
            cells[name] = {point: study.cell(chosen[point], metric) for point in chosen}
        if not any(cell.n for points in cells.values() for cell in points.values()):
            return []
        remark = (
            f"At each point with the {grid.best_over} whose mean of the first metric is lowest."
        )
        plots = [self._grid_plot(grid, name, cells[name]) for name in grid.metrics]
        return [_grid_text(grid, chosen, cells), *plots, remark if grid.best_over else ""]

    def _grid_plot(self, grid: Grid, name: str, cells: Mapping[Point, Cell]) -> str:
        label = ", ".join(filter(None, (name, unit_of(grid.metrics[name]))))
        lines: dict[str, list[tuple[str, Cell]]] = {}
        for line, x in itertools.product(*_axes(cells)):
            if (line, x) in cells:
                lines.setdefault(line or name, []).append((x, cells[line, x]))
        return self._plot(f"{grid.grid} {name}", plot_grid(grid.x, label, grid.lines or "", lines))

    def _choice(self, choice: Choice, study: Study) -> list[str]:
        by_study = self.results.study(choice.by_study) if choice.by_study else None
        chosen = choices(study, choice, by_study)
        if chosen is None:
            return []
        metrics = [f"`{choice.by}`", f"`{choice.metric}`"]
        heads = ["chosen", "configuration", *metrics, "rank by the test"]
        rows = [
            _choice_row(each, study)
            for each in (chosen.by_test, chosen.by_held_out, chosen.of_report)
        ]
        text = f"The report chose by {choice.chose_by}."
        flattery = chosen.flattery
        if flattery.n > 1:
            error = flattery.std / math.sqrt(flattery.n)
            text += (
                " How far the test flatters the winner by the test: its held-out error less its"
                f" test error is {_signed(flattery.mean)} points above the others' (standard error"
                f" {error:.2f})."
            )
        if chosen.by_test.test.n < chosen.by_test.test.expected:
            text += " Compared on the rounds that all configurations have."
        return [table_text(heads, rows), text]

    def _unfinished(self, study: str) -> str:
        """The study's failed and missing runs, with the command for these; once on a page."""
        if study in self.reported:
            return ""
        self.reported.add(study)
        members = self.results.study(study).members
        unfinished = [member for member in members if member.run is None]
        failures = [member.failure for member in unfinished if member.failure is not None]
        missing = [member.seed for member in unfinished if member.failure is None]
        all_runs = f"of the {len(members)} runs of `{study}`"
        sentences = []
        if failures:
            reasons = "; ".join(map(plain, dict.fromkeys(failures)))
            sentences.append(f"{len(failures)} {all_runs} failed ({reasons}).")
        if missing:
            command = self._command(study, set(missing), {member.seed for member in members})
            sentences.append(f"{len(missing)} {all_runs} have not been run; `{command}` runs them.")
        return " ".join(sentences)

    def _command(self, study: str, missing: set[int], seeds: set[int]) -> str:
        """The command that runs the missing seeds.

        It names them where there are others: those may have been run on another machine.
        """
        settings = self.results.overrides
        if missing < seeds:
            settings = [setting for setting in settings if not setting.startswith("seed=")]
            settings.append(f"seed={','.join(map(str, sorted(missing)))}")
        return " ".join([command_name(), f"experiment={study}", *settings])

    def _plot(self, title: str, figure: plt.Figure | None) -> str:
        if figure is None:
            return ""
        name = f"{self.name}-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.png"
        save(figure, self.folder / name, dpi=90)
        return f"![{title}]({name})"


def table_text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are padded to equal widths."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _text_of_columns(columns: Sequence[Sequence[str]]) -> str:
    """A Markdown table of columns that begin with their heads."""
    heads, *rows = zip(*columns)
    return table_text(heads, rows)


def _origin(runs: Sequence[Run]) -> str:
    """The data, versions and machines of the runs."""
    if not runs:
        return ""
    versions, machines = [], set()
    for package in records.PACKAGES:
        found = {plain(run.result["versions"][package]) for run in runs}
        versions += [f"{package} {version}" for version in sorted(found)]
    for run in runs:
        processor = plain(run.result.get("processor", "a machine unknown"))
        machines.add(f"{processor}, {run.result.get('cores', '?')} cores")
    made = f"Made with {', '.join(versions)} on {'; '.join(sorted(machines))}."
    return f" Data: {', '.join(_entries(runs, 'source'))}. {made}"


def _entries(runs: Sequence[Run], key: str) -> list[str]:
    """The different values of a result's entry."""
    return sorted({plain(run.result.get(key) or "unknown") for run in runs})


# Tables


def _table_texts(table: Table, cells: Mapping[str, Sequence[Cell]]) -> list[str]:
    """The table, divided so that each has at most `ACROSS` metrics."""
    first = next(iter(cells.values()))
    rows = ["row", *(row.name for row in table.rows)]
    counts = ["n", *(_rounds(cell.finished, cell.expected) for cell in first)]
    texts = []
    for start in range(0, len(cells), ACROSS):
        columns = [rows, counts]
        for name in list(cells)[start : start + ACROSS]:
            columns += _metric_columns(table, name, cells[name])
        texts.append(_text_of_columns(columns))
    return texts


def _metric_columns(table: Table, name: str, cells: Sequence[Cell]) -> list[list[str]]:
    """The report's figures, ours and their differences; ours alone where the report has none."""
    metric, statistic = statistic_of(table.columns[name])
    values = [_statistic(statistic, cell, cells[0]) for cell in cells]
    texts = [_statistic_text(statistic, cell, value) for cell, value in zip(cells, values)]
    ours = [f"{name}, ours", *texts]
    if not any(name in row.report for row in table.rows):
        return [ours]
    report = [f"{name}, report", *(_figures(row.report.get(name, ())) for row in table.rows)]
    if (metric, statistic) == ("seconds", "mean"):  # two machines are not compared
        return [report, ours]
    differences = ["difference"]
    for row, cell, value in zip(table.rows, cells, values):
        star = "*" * _is_starred(table, name, row, cell)
        difference = _signed(value - row.report[name][0]) if name in row.report else "-"
        differences.append(difference + star)
    return [report, ours, differences]


def _statistic(statistic: str, cell: Cell, first: Cell) -> float:
    """The column's statistic of a cell, nan without values; `first` is the column's first cell."""
    if statistic == "min":
        return min(cell.values.values(), default=math.nan)
    if statistic == "relative":
        return 100 * cell.mean / first.mean if first.n else math.nan
    return cell.mean


def _statistic_text(statistic: str, cell: Cell, value: float) -> str:
    if not cell.n or statistic == "mean":
        return _mean_std(cell)
    return MISSING if math.isnan(value) else f"{value:.2f}"


def _is_starred(table: Table, name: str, row: Row, cell: Cell) -> bool:
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


def _differences_explained(table: Table, cells: Mapping[str, Sequence[Cell]]) -> list[str]:
    """The meaning of the stars, the starred rows without a reason, and each reason once."""
    starred = {
        row.name
        for name, column in cells.items()
        for row, cell in zip(table.rows, column)
        if _is_starred(table, name, row, cell)
    }
    legend = ""
    if starred:
        legend = "\\* differs by more than each standard deviation that is known."
        unexplained = [row.name for row in table.rows if row.name in starred and not row.why]
        if unexplained:
            legend += f" Not explained: {'; '.join(unexplained)}."
    rows_by_reason: dict[str, list[str]] = {}
    for row in table.rows:
        if row.why:
            rows_by_reason.setdefault(row.why, []).append(row.name)
    reasons = [f"- {'; '.join(names)}: {why}" for why, names in rows_by_reason.items()]
    return [legend, "\n".join(reasons)]


# Grids


def _points(grid: Grid, study: Study) -> dict[Point, set[str]]:
    """The settings of each point of the grid."""
    points = {}
    for line in study.varied(grid.lines, grid.settings) if grid.lines else [""]:
        settings = {line, *grid.settings} if line else set(grid.settings)
        for x in study.varied(grid.x, settings):
            points[_value(line), _value(x)] = _best(study, grid, settings | {x})
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


def _axes(points: Mapping[Point, object]) -> tuple[list[str], list[str]]:
    """The names of the grid's lines and its values of x, in their order."""
    lines, xs = zip(*points)
    return list(dict.fromkeys(lines)), list(dict.fromkeys(xs))


def _grid_text(
    grid: Grid,
    chosen: Mapping[Point, set[str]],
    cells: Mapping[str, Mapping[Point, Cell]],
) -> str:
    """A row for each x, a column for each metric and line."""
    lines, xs = _axes(chosen)
    columns = [[grid.x, *xs]]
    for name, line in itertools.product(grid.metrics, lines):
        column = [cells[name].get((line, x)) for x in xs]
        texts = ["" if cell is None else _mean_std(cell, with_n=True) for cell in column]
        columns.append([f"{name}, {line}" if line else name, *texts])
    if grid.best_over:
        best = [f"best {grid.best_over}"]
        for x in xs:
            settings = [setting for line in lines for setting in chosen[line, x]]
            values = [_value(each) for each in settings if each.startswith(f"{grid.best_over}=")]
            best.append(", ".join(values))
        columns.append(best)
    return _text_of_columns(columns)


# Rows and cells


def _claim_row(verdict: Verdict) -> list[str]:
    claim, comparison = verdict.claim, verdict.comparison
    results = [MISSING, "-", "-", "-", "-"]
    if comparison.n:
        bound = f", bound {claim.within:g}" if claim.within else ""
        results = [
            *_claim_figures(verdict),
            f"{100 * comparison.less:.0f} %",
            _signed(comparison.effect),
            _p(verdict.p) + bound,
        ]
    return [claim.claim, claim.place, str(comparison.n), *results, f"**{verdict.verdict}**"]


def _claim_figures(verdict: Verdict) -> tuple[str, str]:
    """Both configurations' figures, and their difference or the ratio of their spreads."""
    claim, comparison = verdict.claim, verdict.comparison
    first = Cell(dict(enumerate(verdict.first)), len(verdict.first))
    second = Cell(dict(enumerate(verdict.second)), len(verdict.second))
    other = _mean_std(second) if claim.bound is None else f"{claim.bound:g}"
    ours = f"{_mean_std(first)} against {other}"
    if claim.relation != "steadier":
        low, high = map(_signed, comparison.interval)
        return ours, f"{_signed(comparison.difference)} [{low}, {high}]"
    if comparison.n > 1 and second.std:
        return ours, f"{first.std / second.std:.2f} times the standard deviation"
    return ours, "-"


def _choice_row(chosen: Chosen, study: Study) -> list[str]:
    """The configuration is named by the settings that vary in the study."""
    constant = frozenset.intersection(*(member.settings for member in study.members))
    name = " ".join(sorted(chosen.settings - constant))
    scores = [_mean_std(cell, with_n=True) for cell in (chosen.held_out, chosen.test)]
    return [chosen.how, f"`{name}`", *scores, str(chosen.rank) if chosen.rank else "-"]


def _mean_std(cell: Cell, with_n: bool = False) -> str:
    if not cell.n:
        return "-" if cell.finished else MISSING
    spread = "" if math.isnan(cell.std) else f" ± {_number(cell.std)}"
    return f"{_number(cell.mean)}{spread}" + (f" ({_n(cell)})" if with_n else "")


def _n(cell: Cell) -> str:
    return _rounds(cell.n, cell.expected)


def _rounds(n: int, expected: int) -> str:
    return f"n = {n}" if n == expected else f"n = {n} of {expected}"


def _figures(figures: Sequence[float]) -> str:
    """The report's mean, and its standard deviation where there is one."""
    return " ± ".join(f"{figure:.2f}" for figure in figures) or "-"


def _signed(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{'-' if value < 0 else '+'}{_number(abs(value))}"


def _number(value: float) -> str:
    """With two decimals; with two significant digits below 0.1, where losses are."""
    return f"{value:.2f}" if value >= 0.0995 or value < 0.001 else f"{value:.2g}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _value(setting: str) -> str:
    return setting.partition("=")[2]


def plain(text: object) -> str:
    """Text of a result as a line of Markdown that shows it literally, without HTML and links."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return re.sub(r"[\\`*_\[\]<>&~#]", _escaped, " ".join(line.split()))


def _escaped(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], f"\\{match[0]}")
