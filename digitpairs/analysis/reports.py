"""What a report says: its tables, figures and claims, as `conf/reports/<report>.yaml` holds them.

Each part names the study whose runs stand beside it, and the place in the report that it comes from. In the files errors are in per
cent; a report's figure is a mean, or a mean and a standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from digitpairs.checks import InvalidValueError, suggestion

COMPARISON_ERROR = "test/comparison_error"
STATISTICS = (
    "mean",
    "min",
    "relative",
)  # of a column: over the rounds; relative: to the first row, in per cent
RELATIONS = ("lower", "no worse", "steadier", "alike", "above")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration, by its settings in the study, after its last epoch or after `epoch`; `report`: by column what the report says;
    `why`: a reason for a difference.
    """

    name: str
    settings: list[str]
    epoch: int | None = None
    report: dict[str, list[float]] = field(default_factory=dict)
    why: str = ""

    def metric(self, name: str) -> str:
        """The metric, at the row's epoch where it has one."""
        return name if self.epoch is None else f"{name}@{self.epoch}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What all parts have: the place in the report, the study whose runs stand beside it, and a remark of ours."""

    place: str
    study: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table(Part):
    """Rows of the report beside ours. `columns`: by name a metric, or [metric, one of STATISTICS]."""

    table: str
    columns: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Grid(Part):
    """Metrics against a setting `x`, a line for each value of `lines`, among the runs with these `settings`; with `best_over` only the best
    value of that key at each point, by the first metric.
    """

    grid: str
    x: str
    metrics: dict[str, str]
    settings: list[str] = field(default_factory=list)
    lines: str | None = None
    best_over: str | None = None


@dataclass(frozen=True, kw_only=True)
class Epochs(Part):
    """A metric by epoch, mean and a band of one standard deviation over the rounds, for each configuration; `metrics` by panel."""

    epochs: str
    metrics: dict[str, str]
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Choice(Part):
    """A choice among a study's configurations, by the test and by the metric `by`, which is not of the test, of the same runs or of those of
    `by_study`. With `last_epoch` the epochs up to it are chosen among, as settings epoch=1, ... `report`: settings of the report's choice.
    """

    choice: str
    report: list[str]
    among: list[str] = field(
        default_factory=list
    )  # only configurations with any of these settings; all by default
    by: str = "validation/comparison_error"
    by_study: str | None = None
    metric: str = COMPARISON_ERROR
    last_epoch: int = 0
    chose_by: str = "the test"  # what the report did


@dataclass(frozen=True, kw_only=True)
class Claim(Part):
    """Something that a report says of two configurations: the first has a lower mean of the metric, or one higher by at most `within` ("no
    worse"), varies less ("steadier"), or is within `within` of the second ("alike"). Or of one: "above" a `bound`. The second is of the same
    study, or of `second_study`.
    """

    claim: str
    first: list[str]
    second: list[str] = field(default_factory=list)
    relation: str = "lower"
    metric: str = COMPARISON_ERROR
    second_metric: str | None = None
    second_study: str | None = None
    within: float = 0.0
    bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class Final(Part):
    """A report's final model: ours is to be at least as good under its protocol. `report`: mean, standard deviation, rounds; or the mean
    alone. `other_reading`: of a final model that stands there already, and is counted once.
    """

    final: str
    settings: list[str]
    report: list[float]
    metric: str = COMPARISON_ERROR
    other_reading: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is compared with one report."""

    title: str
    about: str
    shows: list[Table | Grid | Epochs | Choice]
    finals: list[Final]
    claims: list[Claim]

    @property
    def studies(self) -> list[str]:
        """The names of all studies whose runs it is compared with."""
        others = {each.second_study for each in self.claims} | {
            each.by_study for each in self.shows if isinstance(each, Choice)
        }
        return sorted(
            {each.study for each in (*self.shows, *self.finals, *self.claims)}
            | {each for each in others if each}
        )

    @property
    def metrics_by_epoch(self) -> set[str]:
        """The metrics that are looked at epoch by epoch: those of curves, of choices among epochs, and of one epoch ("...@30", "...@best")."""
        curves = [
            metric
            for each in self.shows
            if isinstance(each, Epochs)
            for metric in each.metrics.values()
        ]
        tables = [each for each in self.shows if isinstance(each, Table)]
        columns = [
            row.metric(statistic_of(column)[0])
            for each in tables
            for column in each.columns.values()
            for row in each.rows
        ]
        grids = [
            metric
            for each in self.shows
            if isinstance(each, Grid)
            for metric in each.metrics.values()
        ]
        choices = [
            f"{metric}@" if each.last_epoch else metric
            for each in self.shows
            if isinstance(each, Choice)
            for metric in (each.by, each.metric)
        ]
        compared = [each.metric for each in (*self.finals, *self.claims)] + [
            each.second_metric or "" for each in self.claims
        ]
        return {
            *curves,
            *(
                each.partition("@")[0]
                for each in (*columns, *grids, *choices, *compared)
                if "@" in each
            ),
        }


KINDS = {"table": Table, "grid": Grid, "epochs": Epochs, "choice": Choice}


def read_report(path: Path) -> Report:
    """The file's content; InvalidValueError, with the place, for keys that have no meaning or are missing."""
    content = _made(Report, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    shows = [
        _show(each, f"{path.name}: shows[{place}]") for place, each in enumerate(content.shows)
    ]
    finals = [
        _made(Final, each, f"{path.name}: finals[{place}]")
        for place, each in enumerate(content.finals)
    ]
    claims = [
        _made(Claim, each, f"{path.name}: claims[{place}]")
        for place, each in enumerate(content.claims)
    ]
    for place, each in enumerate(claims):
        if each.relation not in RELATIONS:
            raise InvalidValueError(
                f"{path.name}: claims[{place}].relation",
                each.relation,
                f"one of {', '.join(RELATIONS)}",
            )
        if (each.relation == "above") != (each.bound is not None):
            raise InvalidValueError(
                f"{path.name}: claims[{place}].bound",
                each.bound,
                "a number with relation=above, and nothing with another",
            )
    return Report(
        title=content.title, about=content.about, shows=shows, finals=finals, claims=claims
    )


def statistic_of(column: str | list[str]) -> tuple[str, str]:
    """Of a table's column the metric, and which of STATISTICS is shown."""
    metric, statistic = (column, "mean") if isinstance(column, str) else column
    if statistic not in STATISTICS:
        raise InvalidValueError("columns", statistic, f"one of {', '.join(STATISTICS)}")
    return metric, statistic


def unit_of(metric: str) -> str:
    """Of a metric: "s", "%", or nothing for a loss."""
    return "s" if metric == "seconds" else "" if metric.endswith("loss") else "%"


def _show(content: Any, place: str) -> Table | Grid | Epochs | Choice:
    kinds = [kind for kind in KINDS if isinstance(content, Mapping) and kind in content]
    if len(kinds) != 1:
        raise InvalidValueError(place, content, f"one of {', '.join(KINDS)}")
    rows = (
        {
            "rows": [
                _made(Row, row, f"{place}.rows[{number}]")
                for number, row in enumerate(content["rows"])
            ]
        }
        if "rows" in content
        else {}
    )
    return _made(KINDS[kinds[0]], {**content, **rows}, place)


def _made(kind: type, content: Any, place: str) -> Any:
    known = {each.name: each for each in fields(kind)}
    for key in content:
        if key not in known:
            raise InvalidValueError(
                f"{place}.{key}",
                content[key],
                f"one of the keys {', '.join(known)}{suggestion(key, known)}",
            )
    missing = [
        name
        for name, each in known.items()
        if name not in content and each.default is MISSING and each.default_factory is MISSING
    ]
    if missing:
        raise InvalidValueError(place, ", ".join(content), f"the keys {', '.join(missing)} as well")
    return kind(**content)
