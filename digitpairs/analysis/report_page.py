"""A report's page: Markdown with the report's figures beside ours, verdicts on its claims, and plots. Everything on it comes from files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from digitpairs.analysis import report_plots
from digitpairs.analysis.claims import TESTED, Chosen, Verdict, choices, final_verdict, flattery, verdicts
from digitpairs.analysis.reports import Choice, Epochs, Grid, Report, Row, Table, statistic_of
from digitpairs.analysis.results import Cell, Results, Run, Study

MISSING = "missing"


def write_page(report: Report, name: str, results: Results, folder: Path) -> str:
    """Writes `<name>.md` and its plots `<name>-*.png` into the folder; returns the text."""
    page = _Page(report, name, results, folder)
    text = page.text()
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return text


class _Page:
    def __init__(self, report: Report, name: str, results: Results, folder: Path) -> None:
        self.report, self.name, self.results, self.folder = report, name, results, folder
        self.said: set[str] = set()  # studies of which it was said what is missing

    def text(self) -> str:
        parts = [f"# {self.report.title}", self.report.about.strip(), self._provenance()]
        parts += ["## Claims", self._claims(), *self._finals()]
        makers = {Table: self._table, Grid: self._grid, Epochs: self._epochs, Choice: self._choice}
        for show in self.report.shows:
            parts += makers[type(show)](show)
        return "\n\n".join(part for part in parts if part) + "\n"

    # The parts of a page

    def _provenance(self) -> str:
        studies = {each.study for each in (*self.report.shows, *self.report.finals, *self.report.claims)}
        studies |= {row.study for show in self.report.shows for row in getattr(show, "rows", []) if row.study}
        lines = []
        for study in sorted(studies):
            members = self.results.study(study).members
            runs = [member.run for member in members if member.run is not None]
            seconds = sum(run.result["seconds"] for run in runs)
            lines.append([f"`{study}`", f"{len(runs)} of {len(members)}", _minutes(seconds), ", ".join(_each(runs, "commit")) or "-"])
        runs = [member.run for study in studies for member in self.results.study(study).members if member.run is not None]
        text = f"Each study is run by `python train.py experiment=<study>{''.join(f' {each}' for each in self.results.overrides)}`."
        if runs:
            versions = [
                f"{package} {version}"
                for package in ("torch", "pytorch_lightning", "python")
                for version in sorted({run.result["versions"][package] for run in runs})
            ]
            machines = sorted({f"{run.result.get('processor', 'a machine unknown')}, {run.result.get('cores', '?')} cores" for run in runs})
            text += f" Data: {', '.join(_each(runs, 'source'))}. Made with {', '.join(versions)} on {'; '.join(machines)}."
        text += " Figures are means ± standard deviations (ddof 1) over the rounds, errors in per cent unless said; n is the number of rounds."
        return text + "\n\n" + table_text(["study", "runs", "time of all runs", "commit"], lines)

    def _claims(self) -> str:
        rows = [_claim_row(each) for each in verdicts(self.results, self.report.claims)]
        heads = ["claim", "where", "n", "ours", "difference by seed [95 % interval]", "first lower", "d_z", "test", "verdict"]
        text = table_text(heads, rows)
        notes = [f"- {claim.claim}: {claim.note}" for claim in self.report.claims if claim.note]
        explained = (
            "Compared seed by seed: BCa bootstrap intervals; the share of seeds whose first value is lower; the effect d_z; two-sided sign-flip tests of "
            "means, Pitman-Morgan tests of variances, p adjusted over "
            "the claims on one study (Holm). *holds*: significant at 5 %; *does not hold*: the opposite is; otherwise *not decided*; nothing is below 6 seeds. "
            "A claim of likeness, or of being no worse, holds where the interval lies within the bound."
        )
        return "\n\n".join([text, *(["\n".join(notes)] if notes else []), explained])

    def _finals(self) -> list[str]:
        rows = []
        for final in self.report.finals:
            cell = self.results.study(final.study).cell(final.settings, final.metric)
            error, verdict = final_verdict(cell, final)
            shown = "-" if math.isnan(error) else f"{error:.2f}"
            rows.append([final.final, final.place, _n(cell), _spread(final.report[:2]), _mean_std(cell), shown, f"**{verdict}**"])
        heads = ["final model", "where", "n", "report", "ours", "standard error", "at least as good"]
        return ["At least as good as the report's, to within one standard error of the difference:", table_text(heads, rows)] if rows else []

    def _table(self, table: Table) -> list[str]:
        cells = [[self._cell(table, row, column) for column in table.columns.values()] for row in table.rows]
        heads = ["row", "n"]
        for name, column in table.columns.items():
            heads += [f"{name}, report", f"{name}, ours", "difference"] if any(name in row.report for row in table.rows) else [f"{name}, ours"]
        lines, unexplained = [], []
        for row, own in zip(table.rows, cells):
            line = [row.name, _n(own[0])]
            for (name, column), cell in zip(table.columns.items(), own):
                shown, value = _statistic(column, cell, [each[list(table.columns).index(name)] for each in cells])
                if any(name in each.report for each in table.rows):
                    figure = row.report.get(name)
                    metric, statistic = statistic_of(column)
                    far = figure is not None and statistic == "mean" and metric != "seconds" and is_far(cell, figure)
                    line += [_spread(figure), shown, _difference(value, figure) + ("*" if far else "")]
                    if far and not row.why and row.name not in unexplained:
                        unexplained.append(row.name)
                else:
                    line.append(shown)
            lines.append(line)
        parts = [f"## {table.table}", f"{table.place}; study `{table.study}`.", table_text(heads, lines)]
        why = [f"- {row.name}: {row.why}" for row in table.rows if row.why]
        if any("*" in cell for line in lines for cell in line):
            parts.append("\\* differs by more than both standard deviations." + (f" Not explained: {'; '.join(unexplained)}." if unexplained else ""))
        parts += ["\n".join(why)] if why else []
        return [*parts, table.note, self._missing(table.study, table.rows), self._plot(table.table, report_plots.plot_table(table, cells))]

    def _cell(self, table: Table, row: Row, column: str | list[str]) -> Cell:
        return self.results.study(row.study or table.study).cell(row.settings, statistic_of(column)[0])

    def _grid(self, grid: Grid) -> list[str]:
        study = self.results.study(grid.study)
        parts = [f"## {grid.grid}", f"{grid.place}; study `{grid.study}`."]
        lines = study.varied(grid.lines, grid.settings) if grid.lines else [""]
        among = {line: {line, *grid.settings} - {""} for line in lines}
        xs = list(dict.fromkeys(x for line in lines for x in study.varied(grid.x, among[line])))
        chosen = {(line, x): self._best(study, grid, among[line] | {x}) for line in lines for x in xs if x in study.varied(grid.x, among[line])}
        cells = {metric: {key: study.cell(settings, metric) for key, settings in chosen.items()} for metric in grid.metrics.values()}
        if any(cell.n for each in cells.values() for cell in each.values()):
            heads = [grid.x, *(f"{name}{f', {_value(line)}' if line else ''}" for name in grid.metrics for line in lines)]
            heads += [f"best {grid.best_over}"] * bool(grid.best_over)
            rows = []
            for x in xs:
                row = [_value(x), *(_mean_std(cells[metric].get((line, x)), with_n=True) for metric in grid.metrics.values() for line in lines)]
                if grid.best_over:
                    row.append(", ".join(_value(each) for line in lines for each in chosen[line, x] if each.startswith(f"{grid.best_over}=")))
                rows.append(row)
            parts.append(table_text(heads, rows))
            for name, metric in grid.metrics.items():
                points = {_value(line) or name: [(_value(x), cells[metric][line, x]) for x in xs if (line, x) in chosen] for line in lines}
                parts.append(self._plot(f"{grid.grid} {name}", report_plots.plot_grid(grid.x, name, points)))
        if grid.best_over:
            parts.append(f"At each point with the {grid.best_over} whose mean of the first metric is lowest.")
        return [*parts, grid.note, self._missing(grid.study, [])]

    def _best(self, study: Study, grid: Grid, settings: set[str]) -> Iterable[str]:
        """The settings, with the value of `best_over` whose mean of the grid's first metric is lowest among those that were run."""
        if not grid.best_over:
            return settings
        options = [settings | {each} for each in study.varied(grid.best_over, settings)]
        first = next(iter(grid.metrics.values()))
        return min(options, key=lambda each: (math.isnan(mean := study.cell(each, first).mean), mean))

    def _epochs(self, epochs: Epochs) -> list[str]:
        study = self.results.study(epochs.study)
        plot = self._plot(epochs.epochs, report_plots.plot_epochs(epochs, study))
        return [f"## {epochs.epochs}", f"{epochs.place}; study `{epochs.study}`.", plot, epochs.note, self._missing(epochs.study, epochs.rows)]

    def _choice(self, choice: Choice) -> list[str]:
        study = self.results.study(choice.study)
        chosen = choices(study, choice)
        rows = [_choice_row(each, study) for each in chosen]
        heads = ["chosen", "configuration", f"`{choice.by}`", f"`{choice.metric}`", "rank by the test"]
        parts = [f"## {choice.choice}", f"{choice.place}; study `{choice.study}`; the report chose by the {choice.chose_by}."]
        if chosen[0].test is not None:
            parts.append(table_text(heads, rows))
            looks = flattery(study, choice, chosen[0])
            parts.append(
                f"On the test its winner looks {abs(looks):.2f} points {'better' if looks >= 0 else 'worse'} than on pairs by which it was not chosen, "
                "beyond what all configurations do."
            )
        return [*parts, choice.note, self._missing(choice.study, [])]

    # Their pieces

    def _missing(self, study: str, rows: Sequence[Row]) -> str:
        """How to run what is missing of a study, or of some rows of it."""
        lines = []
        for name in dict.fromkeys([study, *(row.study for row in rows if row.study)]):
            members = self.results.study(name).members
            failed = [member.failure for member in members if member.run is None and member.failure is not None]
            missing = sum(member.run is None for member in members) - len(failed)
            if name in self.said:
                continue
            self.said.add(name)
            if failed:
                lines.append(f"{len(failed)} of the {len(members)} runs of `{name}` failed ({'; '.join(dict.fromkeys(failed))}).")
            if missing:
                command = " ".join(["python train.py", f"experiment={name}", *self.results.overrides])
                lines.append(f"{missing} of the {len(members)} runs of `{name}` have not been run; `{command}` runs them.")
        return " ".join(lines)

    def _plot(self, title: str, figure: object) -> str:
        if figure is None:
            return ""
        name = f"{self.name}-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.png"
        report_plots.save(figure, self.folder / name)
        return f"![{title}]({name})"


def table_text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it is."""
    lines = [heads, *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[place]) for line in cells) for place in range(len(heads))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    return "\n".join([text[0], "| " + " | ".join("-" * width for width in widths) + " |", *text[1:]])


def is_far(cell: Cell, figure: Sequence[float]) -> bool:
    """Whether ours differs from a report's mean (and standard deviation) by more than both standard deviations."""
    spreads = [each for each in (cell.std, *figure[1:]) if not math.isnan(each)]
    return bool(cell.n and spreads) and abs(cell.mean - figure[0]) > max(spreads)


def _claim_row(verdict: Verdict) -> list[str]:
    """A line of the claims' table."""
    claim, comparison = verdict.claim, verdict.comparison
    if not comparison.n:
        return [claim.claim, claim.place, "0", MISSING, "-", "-", "-", "-", f"**{verdict.verdict}**"]
    first, second = (Cell(dict(enumerate(values)), len(values)) for values in (verdict.first, verdict.second))
    ours = f"{_mean_std(first)} against {f'{claim.bound:g}' if claim.bound is not None else _mean_std(second)}"
    shown = f"{_signed(comparison.difference)} [{_signed(comparison.interval[0])}, {_signed(comparison.interval[1])}]"
    if claim.relation == "steadier":
        shown = f"{first.std / second.std:.2f} times the standard deviation" if comparison.n > 1 and second.std else "-"
    decided = _p(verdict.p) if claim.relation in TESTED else f"within {claim.within:g}"
    lower = f"{100 * comparison.less:.0f} %"
    return [claim.claim, claim.place, str(comparison.n), ours, shown, lower, _signed(comparison.effect), decided, f"**{verdict.verdict}**"]


def _choice_row(chosen: Chosen, study: Study) -> list[str]:
    """A line of a choice's table; of the configuration only what varies in the study."""
    if chosen.settings is None:
        return [chosen.how, MISSING, "-", "-", "-"]
    constant = frozenset.intersection(*(member.settings for member in study.members))
    name = " ".join(sorted(chosen.settings - constant))
    if chosen.test is None:
        return [chosen.how, f"`{name}`", MISSING, MISSING, "-"]
    return [chosen.how, f"`{name}`", _mean_std(chosen.held_out), _mean_std(chosen.test), str(chosen.rank)]


def _statistic(column: str | list[str], cell: Cell, whole_column: Sequence[Cell]) -> tuple[str, float]:
    """A cell as it is shown, and as a number."""
    statistic = statistic_of(column)[1]
    if not cell.n:
        return _mean_std(cell), math.nan
    if statistic == "mean":
        return _mean_std(cell), cell.mean
    first = whole_column[0].mean
    value = {
        "min": min(cell.values.values()),
        "minutes": sum(cell.values.values()) / 60,
        "relative": 100 * cell.mean / first if first else math.nan,
    }[statistic]
    return f"{value:.2f}" if not math.isnan(value) else MISSING, value


def _mean_std(cell: Cell | None, with_n: bool = False) -> str:
    if cell is None:
        return ""
    if not cell.n:
        return "-" if cell.finished else MISSING
    spread = "" if math.isnan(cell.std) else f" ± {cell.std:.2f}"
    return f"{cell.mean:.2f}{spread}" + (f" ({_n(cell)})" if with_n else "")


def _n(cell: Cell) -> str:
    return f"n = {cell.n}" if cell.n == cell.expected else f"n = {cell.n} of {cell.expected}"


def _spread(figure: Sequence[float] | None) -> str:
    if not figure:
        return "-"
    return " ± ".join(f"{each:.2f}" for each in figure)


def _difference(value: float, figure: Sequence[float] | None) -> str:
    return "-" if figure is None or math.isnan(value) else _signed(value - figure[0])


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _value(setting: str) -> str:
    return setting.partition("=")[2]


def _each(runs: Sequence[Run], key: str) -> list[str]:
    return sorted({str(run.result.get(key) or "unknown") for run in runs})
