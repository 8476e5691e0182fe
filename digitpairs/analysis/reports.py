"""The content of `conf/reports/<report>.yaml`: what a report states, and the studies beside it.

Each part names its place in the report and the study whose runs are shown beside it. Errors are in
per cent. A report's figure is a mean, or a mean and a standard deviation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from digitpairs.checks import InvalidValueError, suggestion

COMPARISON_ERROR = "test/comparison_error"
STATISTICS = ("mean", "min", "relative")  # over the rounds; relative: per cent of the first row
RELATIONS = ("lower", "no worse", "steadier", "alike", "above")


class Question(NamedTuple):
    """A question that several reports ask: its title, what is compared with what, a remark."""

    title: str
    contrast: str
    note: str = ""


QUESTIONS = {
    "sharing": Question("Does weight sharing help?", "shared minus separate"),
    "digit_losses": Question("Do the digits' losses help?", "with minus without digits' losses"),
    "weight": Question(
        "Which weight of the comparison's loss?",
        "the report's value minus another",
        "wang's loss is digit1 + digit2 + lambda comparison, and coukos' is c digit1 + c digit2 +"
        " (1 - 2c) comparison. The pages of [wang](wang.md) and [coukos](coukos.md) have all values"
        " beside what held-out pairs choose.",
    ),
    "convolution": Question("MLP or CNN?", "CNN minus MLP"),
    "batch_norm": Question("Does batch norm help?", "with minus without batch norm"),
    "dropout": Question("Does dropout help?", "with minus without dropout"),
    "weight_decay": Question("Does weight decay help?", "with minus without weight decay"),
    "rate": Question("Does a decaying rate help?", "decaying or restarted minus constant rate"),
    "batch_size": Question("Small batches or large ones?", "smaller minus larger batch"),
    "stages": Question("One stage or two?", "two stages minus one"),
}

T = TypeVar("T", bound="Row | Part | Report")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration of a study, after its last epoch or after `epoch`.

    `settings` are its settings in the study, which is the part's unless `study` names another;
    `report` has the report's figures by column; `why` is a reason for a difference.
    """

    name: str
    settings: list[str]
    study: str = ""
    epoch: int | None = None
    report: dict[str, list[float]] = field(default_factory=dict)
    why: str = ""

    def metric(self, name: str) -> str:
        """The metric's name, with the row's epoch if it has one."""
        return name if self.epoch is None else f"{name}@{self.epoch}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What all parts have: the place in the report, the study beside it, and remarks of ours.

    The `lead` is seen at once; the `note` is folded.
    """

    place: str
    study: str
    note: str = ""
    lead: str = ""

    @property
    def title(self) -> str:
        """The value of the field that is named after the class, such as a Table's `table`."""
        return getattr(self, type(self).__name__.lower())

    @property
    def studies(self) -> list[str]:
        """The studies whose runs the part reads."""
        others = [row.study for row in getattr(self, "rows", []) if row.study]
        return list(dict.fromkeys([self.study, *others]))

    @property
    def is_open(self) -> bool:
        """Whether its study is about what the report leaves open."""
        return "/open/" in self.study


@dataclass(frozen=True, kw_only=True)
class Table(Part):
    """A table of the report beside ours; a column is a metric, or [metric, one of STATISTICS]."""

    table: str
    columns: dict[str, Any]
    rows: list[Row]

    @property
    def metrics_read(self) -> list[str]:
        """The metrics that the part reads, with "@" after the name for values of single epochs."""
        metrics = [statistic_of(column)[0] for column in self.columns.values()]
        return [row.metric(metric) for metric in metrics for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Grid(Part):
    """Metrics against the setting `x`, for each value of `lines`, among the runs with `settings`.

    With `best_over`, each point shows the value of that key with the best first metric.
    """

    grid: str
    x: str
    metrics: dict[str, str]
    settings: list[str] = field(default_factory=list)
    lines: str | None = None
    best_over: str | None = None

    @property
    def metrics_read(self) -> list[str]:
        return list(self.metrics.values())


@dataclass(frozen=True, kw_only=True)
class Epochs(Part):
    """Metrics by epoch, one panel each: mean and standard deviation for each configuration."""

    epochs: str
    metrics: dict[str, str]
    rows: list[Row]

    @property
    def metrics_read(self) -> list[str]:
        return [f"{metric}@" for metric in self.metrics.values()]


@dataclass(frozen=True, kw_only=True)
class Scatter(Part):
    """Two metrics, the second of which should be low, against each other: a point for each row."""

    scatter: str
    metrics: dict[str, str]
    rows: list[Row]

    @property
    def metrics_read(self) -> list[str]:
        return [row.metric(metric) for metric in self.metrics.values() for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Choice(Part):
    """A choice among a study's configurations, by the test and by the held-out metric `by`.

    `by` is read from the same runs, or from the runs of `by_study`. With `last_epoch`, the epochs
    up to it are compared as well, with the settings epoch=1, epoch=2, ... `report` has settings of
    the report's choice.
    """

    choice: str
    report: list[str]
    among: list[str] = field(default_factory=list)  # any of these settings; by default all
    by: str = "validation/comparison_error"
    by_study: str | None = None
    metric: str = COMPARISON_ERROR
    last_epoch: int = 0
    chose_by: str = "the test"  # how the report chose

    @property
    def studies(self) -> list[str]:
        return [self.study, *([self.by_study] if self.by_study else [])]

    @property
    def metrics_read(self) -> list[str]:
        epoch = "@" if self.last_epoch else ""
        return [self.by + epoch, self.metric + epoch]


@dataclass(frozen=True, kw_only=True)
class Claim(Part):
    """A statement of the report about the metric of two configurations, or of one and a bound.

    Relations of the first to the second: "lower" mean; "no worse", a mean higher by at most
    `within`; "alike", means that differ by at most `within`; "steadier", less spread. With "above",
    the first's mean is above `bound`. The second is from the same study, or from `second_study`.

    With `question`, one of QUESTIONS, it is an answer for this `network`; `reversed` where it is
    the second that is named first in the question's contrast.
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
    question: str = ""
    network: str = ""
    reversed: bool = False

    @property
    def studies(self) -> list[str]:
        return [self.study, *([self.second_study] if self.second_study else [])]

    @property
    def metrics_read(self) -> list[str]:
        return [self.metric, *([self.second_metric] if self.second_metric else [])]


@dataclass(frozen=True, kw_only=True)
class Final(Part):
    """A report's final model; ours should be at least as good under the report's protocol.

    `report` is mean, standard deviation and number of rounds, or the mean alone. `other_reading`
    marks another reading of a final model; the model is counted once.
    """

    final: str
    settings: list[str]
    report: list[float]
    metric: str = COMPARISON_ERROR
    other_reading: bool = False

    @property
    def metrics_read(self) -> list[str]:
        return [self.metric]


Show = Table | Grid | Epochs | Scatter | Choice
KINDS: dict[str, type[Show]] = {
    "table": Table,
    "grid": Grid,
    "epochs": Epochs,
    "scatter": Scatter,
    "choice": Choice,
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """All parts of one report.

    Its summary is what the report `asked` and `found`, and why ours `differs`. `choices` are ours
    where the report leaves something open. `comparisons` are of questions that the report does not
    answer by a claim.

    With `own` there is no report: it is a question of this project, and `found` is our answer.
    """

    title: str
    asked: str
    found: str
    differs: str = ""
    choices: str
    shows: list[Show]
    finals: list[Final]
    claims: list[Claim]
    comparisons: list[Claim] = field(default_factory=list)
    own: bool = False

    @property
    def parts(self) -> list[Show | Final | Claim]:
        """All that is shown, all final models and all claims."""
        return [*self.shows, *self.finals, *self.claims]

    @property
    def studies(self) -> list[str]:
        """The names of all studies that the parts read, sorted."""
        return sorted({study for part in self.parts for study in part.studies})

    @property
    def metrics_by_epoch(self) -> set[str]:
        """The metrics that are read epoch by epoch: in curves, and as "...@30" or "...@best"."""
        metrics = [metric for part in self.parts for metric in part.metrics_read]
        return {metric.partition("@")[0] for metric in metrics if "@" in metric}


def read_report(path: Path) -> Report:
    """Read a report's file. Raises InvalidValueError, with the place, for invalid content."""
    content = _make(Report, yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
    for key in ("differs", "finals"):
        if content.own and getattr(content, key):
            accepted = "nothing with own: there is no report to compare with"
            raise InvalidValueError(f"{path.name}: {key}", getattr(content, key), accepted)
    return dataclasses.replace(
        content,
        shows=_make_each(_show, content.shows, f"{path.name}: shows"),
        finals=_make_each(functools.partial(_make, Final), content.finals, f"{path.name}: finals"),
        claims=_make_each(_claim, content.claims, f"{path.name}: claims"),
        comparisons=_make_each(_claim, content.comparisons, f"{path.name}: comparisons"),
    )


def statistic_of(column: str | list[str]) -> tuple[str, str]:
    """The metric of a table's column, and which of STATISTICS is shown."""
    metric, statistic = (column, "mean") if isinstance(column, str) else column
    if statistic not in STATISTICS:
        raise InvalidValueError("columns", statistic, f"one of {', '.join(STATISTICS)}")
    return metric, statistic


def unit_of(metric: str) -> str:
    """The metric's unit: "s", "%", or "" for a loss and for the number of parameters."""
    if metric == "seconds":
        return "s"
    return "" if metric.endswith("loss") or metric == "parameters" else "%"


def _show(content: Any, place: str) -> Show:
    kinds = [kind for kind in KINDS if isinstance(content, Mapping) and kind in content]
    if len(kinds) != 1:
        raise InvalidValueError(place, content, f"one of {', '.join(KINDS)}")
    if "rows" in content:
        make_row = functools.partial(_make, Row)
        content = {**content, "rows": _make_each(make_row, content["rows"], f"{place}.rows")}
    show = _make(KINDS[kinds[0]], content, place)
    if isinstance(show, Scatter) and len(show.metrics) != 2:
        raise InvalidValueError(f"{place}.metrics", ", ".join(show.metrics), "two metrics")
    return show


def _claim(content: Any, place: str) -> Claim:
    claim = _make(Claim, content, place)
    if claim.relation not in RELATIONS:
        accepted = f"one of {', '.join(RELATIONS)}"
        raise InvalidValueError(f"{place}.relation", claim.relation, accepted)
    if (claim.relation == "above") != (claim.bound is not None):
        accepted = "a number with relation=above, and nothing with another"
        raise InvalidValueError(f"{place}.bound", claim.bound, accepted)
    if claim.question and claim.question not in QUESTIONS:
        accepted = f"one of {', '.join(QUESTIONS)}"
        raise InvalidValueError(f"{place}.question", claim.question, accepted)
    return claim


def _make_each(make: Callable[[Any, str], T], contents: Sequence[Any], place: str) -> list[T]:
    return [make(content, f"{place}[{index}]") for index, content in enumerate(contents)]


def _make(kind: type[T], content: Any, place: str) -> T:
    """An instance of the dataclass; InvalidValueError for unknown and for missing keys."""
    known = {each.name: each for each in fields(kind)}
    for key in content:
        if key not in known:
            accepted = f"one of the keys {', '.join(known)}{suggestion(key, known)}"
            raise InvalidValueError(f"{place}.{key}", content[key], accepted)
    missing = [name for name, each in known.items() if _required(each) and name not in content]
    if missing:
        raise InvalidValueError(place, ", ".join(content), f"the keys {', '.join(missing)} as well")
    return kind(**content)


def _required(attribute: Field[Any]) -> bool:
    return attribute.default is MISSING and attribute.default_factory is MISSING
