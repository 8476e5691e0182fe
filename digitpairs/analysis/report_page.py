"""A report's page in Markdown: a summary, its tables beside ours, and all else in folded parts.

Everything on the page is computed from the runs' files, except the sentences of the summary that
say what the report asks and finds and why we differ.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from digitpairs import files, records
from digitpairs.analysis.claims import FAILS, HOLDS, choices, final_verdict, verdicts
from digitpairs.analysis.drawing import plt, save
from digitpairs.analysis.report_plots import plot_epochs, plot_grid, plot_scatter, plot_table
from digitpairs.analysis.report_tables import (
    Point,
    axes_of,
    choice_parts,
    choice_sentence,
    claim_table,
    differing_claims,
    figures,
    grid_points,
    grid_tables,
    main_column,
    mean_std,
    metric_table,
    plain,
    reasons,
    rounds,
    scatter_table,
    unexplained,
)
from digitpairs.analysis.reports import (
    Choice,
    Epochs,
    Final,
    Grid,
    Report,
    Row,
    Scatter,
    Show,
    Table,
    statistic_of,
    unit_of,
)
from digitpairs.analysis.results import Cell, Results, Study
from digitpairs.analysis.runs import Run
from digitpairs.analysis.tables import markdown_table
from digitpairs.arguments import command_name

NOT_RUN = "Not run yet."
CHOICES, OWN_CHOICES = "## What the report leaves open", "## How it was chosen"
OWN_FIGURES = "Errors are in per cent, as means ± standard deviations over the rounds."
FIGURES = (
    f"{OWN_FIGURES} A row *differs* where the means are farther apart than every standard deviation"
    " that is known."
)
TESTS = (
    "Compared seed by seed: BCa bootstrap intervals, each for itself; the share of seeds whose"
    " first value is lower; the effect d_z; two-sided sign-flip tests of the mean difference"
    " (against the bound, where there is one) or, for what is steadier, of the deviations from the"
    " medians; p adjusted over the claims on one study (Holm). *holds*: significant at 5 %; *does"
    " not hold*: the opposite is; otherwise *not decided*; nothing is below 6 seeds."
)
FINALS = "At least as good as the report's: to within one standard error of the difference."
FINAL_HEADS = ["final model", "where", "n", "report", "ours", "standard error", "at least as good"]
ANSWERS = {HOLDS: "yes", FAILS: "no"}
NAME_WIDTH = 60  # characters, of a final model in the picture


class Page(NamedTuple):
    """A report's page and its summary.

    `outcome` has the number of runs, of claims that hold, that do not hold and that are not
    decided, and of final models that are as good as the report's.
    """

    text: str
    outcome: list[str]


class _Outcome(NamedTuple):
    """A final model of the report and ours."""

    final: Final
    cell: Cell
    error: float  # the standard error of the difference
    verdict: str


def write_page(report: Report, name: str, results: Results, folder: Path) -> Page:
    """Write `<name>.md` and its plots `<name>-*.png` into the folder."""
    page = _Page(report, name, results, folder)
    text = page.text()
    files.write_atomically(folder / f"{name}.md", text)
    return Page(text, page.outcome())


def fold(summary: str, *parts: str) -> str:
    """Parts that a reader opens by a click; "" where all are empty."""
    content = "\n\n".join(filter(None, parts))
    return _FOLDED.format(summary=summary, content=content) if content else ""


_FOLDED = '<details markdown="1"><summary>{summary}</summary>\n\n{content}\n\n</details>'


class _Page:
    def __init__(self, report: Report, name: str, results: Results, folder: Path) -> None:
        self.report, self.name, self.results, self.folder = report, name, results, folder
        self.reported: set[str] = set()  # studies whose missing runs are on the page
        self.verdicts = verdicts(results, report.claims)
        self.finals = []
        for final in report.finals:
            cell = results.study(final.study).cell(final.settings, final.metric)
            self.finals.append(_Outcome(final, cell, *final_verdict(cell, final)))
        self.studies = [results.study(study) for study in report.studies]

    def text(self) -> str:
        shown: dict[bool, list[Show]] = {True: [], False: []}
        for show in self.report.shows:
            shown[show.is_open].append(show)
        parts = [f"# {self.report.title}", *self._summary(), *self._claims()]
        own = self.report.own
        for show in shown[False]:
            place = f"{show.place}." if own else f"In the report: {show.place}."
            parts += [f"## {show.title}", place, show.lead, *self._section(show)]
        parts += [OWN_CHOICES if own else CHOICES, fold("Our choices", self.report.choices)]
        for show in shown[True]:
            parts.append(fold(show.title, f"{show.place}.", *self._section(show, folded=True)))
        parts += ["## Runs", fold("Number, time and origin of the runs", *self._provenance())]
        return "\n\n".join(filter(None, parts)) + "\n"

    def outcome(self) -> list[str]:
        finished = sum(len(study.runs) for study in self.studies)
        expected = sum(len(study.members) for study in self.studies)
        finals = [each.verdict for each in self.finals if not each.final.other_reading]
        return [
            f"{finished} of {expected}",
            *map(str, self._counts()),
            "-" if self.report.own else f"{finals.count(HOLDS)} of {len(finals)}",
        ]

    def _counts(self) -> tuple[int, int, int]:
        """The number of claims that hold, that do not hold, and that are not decided."""
        claims = [verdict.verdict for verdict in self.verdicts]
        holds, fails = claims.count(HOLDS), claims.count(FAILS)
        return holds, fails, len(claims) - holds - fails

    # The parts of the page

    def _summary(self) -> list[str]:
        runs, holds, fails, undecided, finals = self.outcome()
        claims = f"of {len(self.verdicts)} claims {holds} hold, {fails} do not, and {undecided} are"
        report = self.report
        if report.own:
            lines = {
                "We ask": report.asked,
                "We find": report.found,
                "Tests": f"{claims} not decided ({runs} runs).",
            }
        else:
            lines = {
                "The report asks": report.asked,
                "It finds": report.found,
                "We find": f"{claims} not decided; {finals} final models are at least as good as"
                f" the report's ({runs} runs).",
                "Why we differ": report.differs,
            }
        texts = [f"**{head}:** {line.strip()}" for head, line in lines.items() if line]
        return [*texts, *self._finals(), OWN_FIGURES if report.own else FIGURES]

    def _finals(self) -> list[str]:
        own = [each for each in self.finals if not each.final.other_reading]
        if not own:
            return []
        rows = []
        for final, cell, _, verdict in own:
            answer = ANSWERS.get(verdict, verdict)
            rows.append([final.final, figures(final.report[:2]), mean_std(cell), answer])
        heads = ["final model", "report", "ours", "at least as good"]
        all_rows = [_final_row(each) for each in self.finals]
        return [
            self._plot("Final models", _plot_finals(own)),
            markdown_table(heads, rows),
            fold(
                "Other readings, and where they are", FINALS, markdown_table(FINAL_HEADS, all_rows)
            ),
        ]

    def _claims(self) -> list[str]:
        if not self.verdicts:
            return []
        notes = [f"- {claim.claim}: {claim.note}" for claim in self.report.claims if claim.note]
        differing = differing_claims(self.verdicts)
        return [
            "## Claims that do not hold, or are not decided" if differing else "## Claims",
            differing or "All hold.",
            fold(
                f"All {len(self.verdicts)} claims, with their tests",
                claim_table(self.verdicts),
                "\n".join(notes),
                TESTS,
            ),
        ]

    def _section(self, show: Show, folded: bool = False) -> list[str]:
        """What a reader sees of a part, and the rest, which is folded unless the part itself is."""
        study = self.results.study(show.study)
        seen, rest = self._content(show, study)
        commands = ", ".join(f"`experiment={name}`" for name in show.studies)
        rest = [*rest, show.note, f"Run by {commands}."]
        missing = [self._unfinished(name) for name in show.studies]
        rest = rest if folded else [fold("More", *rest)]
        return [*(seen or [NOT_RUN]), *rest, *missing]

    def _content(self, show: Show, study: Study) -> tuple[list[str], list[str]]:
        if isinstance(show, Table):
            return self._table(show)
        if isinstance(show, Grid):
            return self._grid(show, study)
        if isinstance(show, Epochs):
            members = [self._study(show, row).of(row.settings) for row in show.rows]
            runs = [[each.run for each in row if each.run is not None] for row in members]
            plot = self._plot(show.epochs, plot_epochs(show, runs))
            return [plot] if plot else [], []
        if isinstance(show, Scatter):
            cells = [self._column(show, metric) for metric in show.metrics.values()]
            plot = self._plot(show.scatter, plot_scatter(show, cells))
            return [plot] if plot else [], [scatter_table(show, cells)]
        return self._choice(show, study)

    def _column(self, show: Table | Scatter, metric: str) -> list[Cell]:
        """The metric of each row."""
        return [self._study(show, row).cell(row.settings, row.metric(metric)) for row in show.rows]

    def _study(self, show: Show, row: Row) -> Study:
        return self.results.study(row.study or show.study)

    def _table(self, table: Table) -> tuple[list[str], list[str]]:
        cells = {
            name: self._column(table, statistic_of(column)[0])
            for name, column in table.columns.items()
        }
        main = main_column(table)
        plot = self._plot(table.table, plot_table(table, cells))
        rest = [metric_table(table, name, cells[name]) for name in cells if name != main]
        rest.append(reasons(table))
        if rows := unexplained(table, cells):
            rest.append(f"Not explained: {'; '.join(rows)}.")
        return [metric_table(table, main, cells[main])], [plot, *rest]

    def _grid(self, grid: Grid, study: Study) -> tuple[list[str], list[str]]:
        chosen = grid_points(grid, study)
        cells: dict[str, dict[Point, Cell]] = {}
        for name, metric in grid.metrics.items():
            cells[name] = {point: study.cell(chosen[point], metric) for point in chosen}
        if not any(cell.n for points in cells.values() for cell in points.values()):
            return [], []
        remark = (
            f"At each point with the {grid.best_over} whose mean of the first metric is lowest."
        )
        plots = [self._grid_plot(grid, name, cells[name]) for name in grid.metrics]
        return plots, [*grid_tables(grid, chosen, cells), remark if grid.best_over else ""]

    def _grid_plot(self, grid: Grid, name: str, cells: Mapping[Point, Cell]) -> str:
        label = ", ".join(filter(None, (name, unit_of(grid.metrics[name]))))
        lines: dict[str, list[tuple[str, Cell]]] = {}
        for line, x in itertools.product(*axes_of(cells)):
            if (line, x) in cells:
                lines.setdefault(line or name, []).append((x, cells[line, x]))
        return self._plot(f"{grid.grid} {name}", plot_grid(grid.x, label, grid.lines or "", lines))

    def _choice(self, choice: Choice, study: Study) -> tuple[list[str], list[str]]:
        by_study = self.results.study(choice.by_study) if choice.by_study else None
        chosen = choices(study, choice, by_study)
        if chosen is None:
            return [], []
        return [choice_sentence(chosen, study)], choice_parts(choice, chosen, study)

    def _provenance(self) -> list[str]:
        rows = []
        for study in self.studies:
            count = f"{len(study.runs)} of {len(study.members)}"
            duration = _duration(sum(run.result["seconds"] for run in study.runs))
            commits = ", ".join(_entries(study.runs, "commit")) or "-"
            rows.append([f"`{study.name}`", count, duration, commits])
        command = " ".join([command_name(), "experiment=<study>", *self.results.overrides])
        runs = [run for study in self.studies for run in study.runs]
        text = f"Each study is run by `{command}`.{_origin(runs)}"
        return [text, markdown_table(["study", "runs", "time of all runs", "commit"], rows)]

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
            causes = "; ".join(map(plain, dict.fromkeys(failures)))
            sentences.append(f"{len(failures)} {all_runs} failed ({causes}).")
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


def _final_row(each: _Outcome) -> list[str]:
    final, cell, error, verdict = each
    name = f"another reading: {final.final}" if final.other_reading else final.final
    error_text = "-" if math.isnan(error) else f"{error:.2f}"
    ours = [figures(final.report[:2]), mean_std(cell)]
    return [name, final.place, rounds(cell), *ours, error_text, f"**{verdict}**"]


def _plot_finals(finals: Sequence[_Outcome]) -> plt.Figure | None:
    """The final models' errors, the report's beside ours."""
    rows = [
        Row(
            name=textwrap.shorten(each.final.final, NAME_WIDTH, placeholder=" ..."),
            settings=each.final.settings,
            report={"error": each.final.report[:2]},
        )
        for each in finals
    ]
    first = finals[0].final
    columns = {"error": first.metric}
    table = Table(table="", place="", study=first.study, columns=columns, rows=rows)
    return plot_table(table, {"error": [each.cell for each in finals]})


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


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
