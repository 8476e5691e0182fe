"""A report's page: Markdown with the report's figures beside ours, verdicts on its claims, and plots. Everything on it comes from files."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from digitpairs import files
from digitpairs.analysis import report_plots
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
from digitpairs.analysis.drawing import save
from digitpairs.analysis.reports import Choice, Epochs, Grid, Report, Table, statistic_of, unit_of
from digitpairs.analysis.results import Cell, Results, Study
from digitpairs.analysis.runs import Run
from digitpairs.arguments import command_name

MISSING, NOT_RUN = "missing", "Not run yet."
Place = tuple[str, str]  # on a grid: its line and its x


class Page(NamedTuple):
    """A report's page, and at a glance: how many runs there are, claims that hold, that do not, that are not decided, final models as good."""

    text: str
    outcome: list[str]


def write_page(report: Report, name: str, results: Results, folder: Path) -> Page:
    """Writes `<name>.md` and its plots `<name>-*.png` into the folder."""
    page = _Page(report, name, results, folder)
    text = page.text()
    files.write_atomically(folder / f"{name}.md", text)
    return Page(text, page.outcome())


class _Page:
    def __init__(self, report: Report, name: str, results: Results, folder: Path) -> None:
        self.report, self.name, self.results, self.folder = report, name, results, folder
        self.said: set[str] = set()  # studies of which it was said what is missing
        self.verdicts = verdicts(results, report.claims)
        cells = [
            results.study(final.study).cell(final.settings, final.metric) for final in report.finals
        ]
        self.finals = [
            (final, cell, *final_verdict(cell, final)) for final, cell in zip(report.finals, cells)
        ]
        self.studies = [results.study(study) for study in report.studies]

    def text(self) -> str:
        parts = [f"# {self.report.title}", self.report.about.strip(), self._provenance()]
        parts += ["## Claims", self._claims(), *self._finals()]
        makers = {Table: self._table, Grid: self._grid, Epochs: self._epochs, Choice: self._choice}
        for show in self.report.shows:
            title = getattr(show, type(show).__name__.lower())
            studies = [
                show.study,
                *([show.by_study] if isinstance(show, Choice) and show.by_study else []),
            ]
            parts += [
                f"## {title}",
                f"{show.place}; {' and '.join(f'study `{each}`' for each in studies)}.",
            ]
            shown = [
                part for part in makers[type(show)](show, self.results.study(show.study)) if part
            ]
            parts += [*(shown or [NOT_RUN]), show.note, *map(self._missing, studies)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def outcome(self) -> list[str]:
        said = [each.verdict for each in self.verdicts]
        finals = [verdict for final, *_, verdict in self.finals if not final.other_reading]
        finished, requests = (
            sum(len(study.runs) for study in self.studies),
            sum(len(study.members) for study in self.studies),
        )
        decided = said.count(HOLDS), said.count(FAILS)
        return [
            f"{finished} of {requests}",
            *map(str, decided),
            str(len(said) - sum(decided)),
            f"{finals.count(HOLDS)} of {len(finals)}",
        ]

    # The parts of a page

    def _provenance(self) -> str:
        lines, runs = [], []
        for study in self.studies:
            there = study.runs
            seconds = _minutes(sum(run.result["seconds"] for run in there))
            lines.append(
                [
                    f"`{study.name}`",
                    f"{len(there)} of {len(study.members)}",
                    seconds,
                    ", ".join(_each(there, "commit")) or "-",
                ]
            )
            runs += there
        command = " ".join([command_name(), "experiment=<study>", *self.results.overrides])
        text = f"Each study is run by `{command}`."
        if runs:
            versions = [
                f"{package} {version}"
                for package in ("torch", "pytorch_lightning", "python")
                for version in sorted({plain(run.result["versions"][package]) for run in runs})
            ]
            machines = sorted(
                {
                    f"{plain(run.result.get('processor', 'a machine unknown'))}, {run.result.get('cores', '?')} cores"
                    for run in runs
                }
            )
            text += f" Data: {', '.join(_each(runs, 'source'))}. Made with {', '.join(versions)} on {'; '.join(machines)}."
        text += " Figures are means ± standard deviations (ddof 1) over the rounds, errors in per cent unless said; n is the number of rounds."
        return text + "\n\n" + table_text(["study", "runs", "time of all runs", "commit"], lines)

    def _claims(self) -> str:
        rows = [_claim_row(each) for each in self.verdicts]
        heads = [
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
        text = table_text(heads, rows)
        notes = [f"- {claim.claim}: {claim.note}" for claim in self.report.claims if claim.note]
        explained = (
            "Compared seed by seed: BCa bootstrap intervals, each for itself; the share of seeds whose first value is lower; the effect d_z; two-sided "
            "sign-flip tests of the mean difference (against the bound, where there is one) or, for what is steadier, of the deviations from the medians; p "
            "adjusted over the claims on one study (Holm). *holds*: significant at 5 %; *does not hold*: the opposite is; otherwise *not decided*; nothing is "
            "below 6 seeds."
        )
        return "\n\n".join([text, *(["\n".join(notes)] if notes else []), explained])

    def _finals(self) -> list[str]:
        rows = []
        for final, cell, error, verdict in self.finals:
            shown = "-" if math.isnan(error) else f"{error:.2f}"
            name = f"another reading: {final.final}" if final.other_reading else final.final
            rows.append(
                [
                    name,
                    final.place,
                    _n(cell),
                    _spread(final.report[:2]),
                    _mean_std(cell),
                    shown,
                    f"**{verdict}**",
                ]
            )
        heads = [
            "final model",
            "where",
            "n",
            "report",
            "ours",
            "standard error",
            "at least as good",
        ]
        return (
            [
                "At least as good as the report's, to within one standard error of the difference:",
                table_text(heads, rows),
            ]
            if rows
            else []
        )

    def _table(self, table: Table, study: Study) -> list[str]:
        metrics = {name: statistic_of(column) for name, column in table.columns.items()}
        cells = {
            name: [study.cell(row.settings, row.metric(metric)) for row in table.rows]
            for name, (metric, _) in metrics.items()
        }
        far = {
            (name, row.name)
            for name, (metric, statistic) in metrics.items()
            for row, cell in zip(table.rows, cells[name])
            if statistic == "mean"
            and metric != "seconds"
            and name in row.report
            and is_far(cell, row.report[name])
        }
        first = [
            ["row", *(row.name for row in table.rows)],
            ["n", *(_rounds(cell.finished, cell.expected) for cell in next(iter(cells.values())))],
        ]
        texts = []
        across = report_plots.ACROSS
        for names in (
            list(metrics)[start : start + across] for start in range(0, len(metrics), across)
        ):
            heads, *lines = zip(
                *first,
                *(column for name in names for column in _columns(table, name, cells[name], far)),
            )
            texts.append(table_text(heads, lines))
        return [
            *texts,
            *_reasons(table, {row for _, row in far}),
            self._plot(table.table, report_plots.plot_table(table, cells)),
        ]

    def _grid(self, grid: Grid, study: Study) -> list[str]:
        among = (
            {
                _value(line): {line, *grid.settings}
                for line in study.varied(grid.lines, grid.settings)
            }
            if grid.lines
            else {"": {*grid.settings}}
        )
        chosen = {
            (line, _value(x)): self._best(study, grid, settings | {x})
            for line, settings in among.items()
            for x in study.varied(grid.x, settings)
        }
        cells = {
            name: {place: study.cell(settings, metric) for place, settings in chosen.items()}
            for name, metric in grid.metrics.items()
        }
        if not any(cell.n for each in cells.values() for cell in each.values()):
            return []
        xs = list(dict.fromkeys(x for _, x in chosen))
        plots = []
        for name, metric in grid.metrics.items():
            label = ", ".join(filter(None, (name, unit_of(metric))))
            points = {
                line or name: [(x, cells[name][line, x]) for x in xs if (line, x) in chosen]
                for line in among
            }
            plots.append(
                self._plot(
                    f"{grid.grid} {name}",
                    report_plots.plot_grid(grid.x, label, grid.lines or "", points),
                )
            )
        remark = (
            f"At each point with the {grid.best_over} whose mean of the first metric is lowest."
            if grid.best_over
            else ""
        )
        return [_grid_text(grid, xs, list(among), chosen, cells), *plots, remark]

    def _best(self, study: Study, grid: Grid, settings: set[str]) -> set[str]:
        """The settings, with the value of `best_over` whose mean of the grid's first metric is lowest on the seeds that all values have."""
        if not grid.best_over:
            return settings
        metric = next(iter(grid.metrics.values()))
        options = study.varied(grid.best_over, settings)
        cells = on_common_seeds({each: study.cell(settings | {each}, metric) for each in options})
        return settings | {min(cells, key=lambda each: cells[each].mean) if cells else options[0]}

    def _epochs(self, epochs: Epochs, study: Study) -> list[str]:
        return [self._plot(epochs.epochs, report_plots.plot_epochs(epochs, study))]

    def _choice(self, choice: Choice, study: Study) -> list[str]:
        made = choices(
            study, choice, self.results.study(choice.by_study) if choice.by_study else None
        )
        if made is None:
            return []
        heads = [
            "chosen",
            "configuration",
            f"`{choice.by}`",
            f"`{choice.metric}`",
            "rank by the test",
        ]
        rows = [
            _choice_row(each, study) for each in (made.by_test, made.by_held_out, made.of_report)
        ]
        looks = made.flattery
        text = f"The report chose by {choice.chose_by}."
        if looks.n > 1:
            text += (
                f" How far the test flatters the winner by the test: its held-out error less its test error is {_signed(looks.mean)} points above "
                f"the others' (standard error {looks.std / math.sqrt(looks.n):.2f})."
            )
        if made.by_test.test.n < made.by_test.test.expected:
            text += " Compared on the rounds that all configurations have."
        return [table_text(heads, rows), text]

    # Their pieces

    def _missing(self, study: str) -> str:
        """How to run what is missing of a study; said once a page."""
        if study in self.said:
            return ""
        self.said.add(study)
        members = self.results.study(study).members
        failed = [
            member.failure
            for member in members
            if member.run is None and member.failure is not None
        ]
        missing = [
            member.seed for member in members if member.run is None and member.failure is None
        ]
        lines = []
        if failed:
            reasons = "; ".join(map(plain, dict.fromkeys(failed)))
            lines.append(
                f"{len(failed)} of the {len(members)} runs of `{study}` failed ({reasons})."
            )
        if missing:
            some = set(missing) < {
                member.seed for member in members
            }  # on another machine the others would be run again
            seeds = [f"seed={','.join(map(str, sorted(set(missing))))}"] if some else []
            others = [
                each for each in self.results.overrides if not (some and each.startswith("seed="))
            ]
            command = " ".join([command_name(), f"experiment={study}", *others, *seeds])
            lines.append(
                f"{len(missing)} of the {len(members)} runs of `{study}` have not been run; `{command}` runs them."
            )
        return " ".join(lines)

    def _plot(self, title: str, figure: object) -> str:
        if figure is None:
            return ""
        name = f"{self.name}-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.png"
        save(figure, self.folder / name, dpi=90)
        return f"![{title}]({name})"


def table_text(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it is."""
    lines = [heads, *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[place]) for line in cells) for place in range(len(heads))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in cells
    ]
    return "\n".join(
        [text[0], "| " + " | ".join("-" * width for width in widths) + " |", *text[1:]]
    )


def _reasons(table: Table, far: set[str]) -> list[str]:
    """What the stars mean, the rows that are far off without a reason, and the reasons, each once."""
    parts = []
    if far:
        unexplained = [row.name for row in table.rows if row.name in far and not row.why]
        parts.append(
            "\\* differs by more than each standard deviation that is known."
            + (f" Not explained: {'; '.join(unexplained)}." if unexplained else "")
        )
    reasons = dict.fromkeys(row.why for row in table.rows if row.why)
    return [
        *parts,
        "\n".join(
            f"- {'; '.join(row.name for row in table.rows if row.why == why)}: {why}"
            for why in reasons
        ),
    ]


def _grid_text(
    grid: Grid,
    xs: Sequence[str],
    lines: Sequence[str],
    chosen: Mapping[Place, set[str]],
    cells: Mapping[str, Mapping[Place, Cell]],
) -> str:
    """A row for each x, a column for each metric and line."""
    columns = [[grid.x, *xs]]
    for name, line in itertools.product(grid.metrics, lines):
        columns.append(
            [
                f"{name}, {line}" if line else name,
                *(_mean_std(cells[name].get((line, x)), with_n=True) for x in xs),
            ]
        )
    if grid.best_over:
        best = [
            [
                each
                for line in lines
                for each in chosen[line, x]
                if each.startswith(f"{grid.best_over}=")
            ]
            for x in xs
        ]
        columns.append([f"best {grid.best_over}", *(", ".join(map(_value, each)) for each in best)])
    heads, *rows = zip(*columns)
    return table_text(heads, rows)


def is_far(cell: Cell, figure: Sequence[float]) -> bool:
    """Whether ours differs from a report's mean by more than each standard deviation that is known, the report's and ours."""
    spreads = [each for each in (cell.std, *figure[1:]) if not math.isnan(each)]
    return bool(cell.n and spreads) and abs(cell.mean - figure[0]) > max(spreads)


def _claim_row(verdict: Verdict) -> list[str]:
    """A line of the claims' table."""
    claim, comparison = verdict.claim, verdict.comparison
    if not comparison.n:
        return [
            claim.claim,
            claim.place,
            "0",
            MISSING,
            "-",
            "-",
            "-",
            "-",
            f"**{verdict.verdict}**",
        ]
    first, second = (
        Cell(dict(enumerate(values)), len(values)) for values in (verdict.first, verdict.second)
    )
    ours = f"{_mean_std(first)} against {f'{claim.bound:g}' if claim.bound is not None else _mean_std(second)}"
    shown = f"{_signed(comparison.difference)} [{_signed(comparison.interval[0])}, {_signed(comparison.interval[1])}]"
    if claim.relation == "steadier":
        shown = (
            f"{first.std / second.std:.2f} times the standard deviation"
            if comparison.n > 1 and second.std
            else "-"
        )
    decided = _p(verdict.p) + (f", bound {claim.within:g}" if claim.within else "")
    lower = f"{100 * comparison.less:.0f} %"
    return [
        claim.claim,
        claim.place,
        str(comparison.n),
        ours,
        shown,
        lower,
        _signed(comparison.effect),
        decided,
        f"**{verdict.verdict}**",
    ]


def _choice_row(chosen: Chosen, study: Study) -> list[str]:
    """A line of a choice's table; of the configuration only what varies in the study."""
    constant = frozenset.intersection(*(member.settings for member in study.members))
    name = " ".join(sorted(chosen.settings - constant))
    if chosen.test is None:
        return [chosen.how, f"`{name}`", MISSING, MISSING, "-"]
    return [
        chosen.how,
        f"`{name}`",
        _mean_std(chosen.held_out, with_n=True),
        _mean_std(chosen.test, with_n=True),
        str(chosen.rank),
    ]


def _statistic(statistic: str, cell: Cell, first: Cell) -> tuple[str, float]:
    """A cell as it is shown, and as a number; `first` is the column's first."""
    if not cell.n or statistic == "mean":
        return _mean_std(cell), cell.mean
    value = {
        "min": min(cell.values.values()),
        "relative": 100 * cell.mean / first.mean if first.n else math.nan,
    }[statistic]
    return MISSING if math.isnan(value) else f"{value:.2f}", value


def _columns(
    table: Table, name: str, cells: Sequence[Cell], far: Container[tuple[str, str]]
) -> list[list[str]]:
    """Of one metric: the report's figures, ours and their differences, those in `far` with a star; ours alone where the report has none."""
    metric, statistic = statistic_of(table.columns[name])
    shown = [_statistic(statistic, cell, cells[0]) for cell in cells]
    ours = [f"{name}, ours", *(text for text, _ in shown)]
    if not any(name in row.report for row in table.rows):
        return [ours]
    report = [f"{name}, report", *(_spread(row.report.get(name)) for row in table.rows)]
    if (metric, statistic) == ("seconds", "mean"):  # of two machines
        return [report, ours]
    differences = [
        _difference(value, row.report.get(name)) + "*" * ((name, row.name) in far)
        for (_, value), row in zip(shown, table.rows)
    ]
    return [report, ours, ["difference", *differences]]


def _mean_std(cell: Cell | None, with_n: bool = False) -> str:
    if cell is None:
        return ""
    if not cell.n:
        return "-" if cell.finished else MISSING
    spread = "" if math.isnan(cell.std) else f" ± {_number(cell.std)}"
    return f"{_number(cell.mean)}{spread}" + (f" ({_n(cell)})" if with_n else "")


def _n(cell: Cell) -> str:
    return _rounds(cell.n, cell.expected)


def _rounds(n: int, expected: int) -> str:
    return f"n = {n}" if n == expected else f"n = {n} of {expected}"


def _spread(figure: Sequence[float] | None) -> str:
    if not figure:
        return "-"
    return " ± ".join(f"{each:.2f}" for each in figure)


def _difference(value: float, figure: Sequence[float] | None) -> str:
    return "-" if figure is None or math.isnan(value) else _signed(value - figure[0])


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{'-' if value < 0 else '+'}{_number(abs(value))}"


def _number(value: float) -> str:
    """With two decimals; with two significant digits below 0.1, as losses are."""
    return f"{value:.2f}" if value >= 0.0995 or value < 0.001 else f"{value:.2g}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _value(setting: str) -> str:
    return setting.partition("=")[2]


def _each(runs: Sequence[Run], key: str) -> list[str]:
    return sorted({plain(run.result.get(key) or "unknown") for run in runs})


def plain(text: object) -> str:
    """Text of a result, as Markdown that shows it as it is, in one line; no HTML, no link, no emphasis."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return re.sub(r"[\\`*_\[\]<>&~#]", _escaped, " ".join(line.split()))


def _escaped(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}")
