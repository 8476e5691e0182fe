"""The table at the end of a sweep, out of the files in its folder."""

from __future__ import annotations

import math
import shlex
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitpairs import files, records
from digitpairs.analysis.names import Names
from digitpairs.analysis.runs import undamaged
from digitpairs.terminal import plus_minus

METRICS = dict(zip(records.TEST_ERRORS, ("Test error of the comparison", "Test error")))
DIGITS = "test/digit_error"  # beside the comparison's, where a network names digits; some studies train nothing else
CONFIDENCE = 0.95


class Row(NamedTuple):
    """The runs of one configuration on one source of digits; errors in per cent."""

    configuration: str
    source: str
    metric: str  # a key of METRICS
    n: int
    mean: float
    std: float  # ddof 1; nan below two runs
    half_width: float  # of the mean's confidence interval, Student's t; nan below two runs
    best: tuple[float, int]  # error and seed
    worst: tuple[float, int]
    digits: float  # mean error of the digits; nan where a network names none
    failures: int
    seconds: float  # of all its runs together


def read_rows(runs: Iterable[Path]) -> list[Row]:
    """A row for each configuration and source, the best mean first, from the runs' folders. Results of different sources are
    never averaged. Damaged results are left out with a warning.
    """
    results, failures = defaultdict(list), defaultdict(int)
    for configuration, result in undamaged(runs, _outcome):
        if result is None:
            failures[configuration] += 1
            continue
        metric = next(each for each in METRICS if each in result)
        results[configuration, result["source"], metric].append(result)
    rows = [_row(*key, values, failures.pop(key[0], 0)) for key, values in results.items()]
    rows += [_row(configuration, "", "", [], count) for configuration, count in failures.items()]
    return sorted(rows, key=lambda row: (math.isnan(row.mean), row.mean, row.configuration))


def _outcome(folder: Path) -> tuple[str, dict[str, Any] | None] | None:
    """The run's configuration with its result, or with None if it failed; None if it has not ended."""
    result = records.read_result(folder)
    ended = result is not None or (folder / files.FAILURE).exists()
    return (folder.parent.name, result) if ended else None


def mean_std_half_width(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard deviation (ddof 1) and the half width of the mean's confidence interval (Student's t)."""
    if not values:
        return math.nan, math.nan, math.nan
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, math.nan, math.nan
    from scipy.special import (
        stdtrit,  # scipy.stats has the same under another name, and takes a second to import
    )

    std = statistics.stdev(values)
    return (
        mean,
        std,
        float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(len(values)),
    )


def print_table(sweep: Path, runs: Iterable[Path], console: Console, names: Names) -> None:
    """A table for each source of digits, out of the runs' folders, and where the sweep's files are."""
    rows = read_rows(runs)
    for source, metric in dict.fromkeys((row.source, row.metric) for row in rows):
        some = [row for row in rows if (row.source, row.metric) == (source, metric)]
        console.print(_table(source, metric, some, names, plus_minus(console)))
    for line in (f"Results: {sweep}", f"Curves:  tensorboard --logdir {shlex.quote(str(sweep))}"):
        console.print(Text(line), soft_wrap=True)


def _row(
    configuration: str, source: str, metric: str, results: list[dict[str, Any]], failures: int
) -> Row:
    ranked = sorted((result[metric], result["seed"]) for result in results)
    return Row(
        configuration,
        source,
        metric,
        len(results),
        *mean_std_half_width([error for error, _ in ranked]),
        best=ranked[0] if ranked else (math.nan, -1),
        worst=ranked[-1] if ranked else (math.nan, -1),
        digits=statistics.fmean(result.get(DIGITS, math.nan) for result in results)
        if results
        else math.nan,
        failures=failures,
        seconds=sum(result["seconds"] for result in results),
    )


def _table(source: str, metric: str, rows: Sequence[Row], names: Names, sign: str) -> Table:
    digits = "" if all(math.isnan(row.digits) for row in rows) else "; digits: mean error"
    caption = f"best, worst: error (seed){digits}; {sum(row.seconds for row in rows):.0f} s of runs in all"
    title = (
        f"{METRICS[metric]}, %, data: {source}" if source else "No run finished"
    ) + f", {names.shared}" * bool(names.shared)
    heading = Text(title, style="table.title")  # no markup: brackets are part of names
    table = Table(
        title=heading, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True
    )
    table.add_column(
        "config", overflow="fold"
    )  # the one column that gives way on a narrow terminal
    cells = [_cells(row, sign) for row in rows]
    shown = [
        name
        for name in cells[0]
        if name not in ("digits", "failed") or any(each[name] not in ("-", "0") for each in cells)
    ]
    for name in shown:
        table.add_column(
            name, justify="right", min_width=max(len(name), *(len(each[name]) for each in cells))
        )
    for row, each in zip(rows, cells):
        table.add_row(Text(names.of[row.configuration]), *(each[column] for column in shown))
    return table


def _cells(row: Row, sign: str) -> dict[str, str]:
    best, worst = (
        f"{error:.2f} ({seed})" if row.n else "-" for error, seed in (row.best, row.worst)
    )
    return {
        "n": str(row.n),
        "mean": _per_cent(row.mean),
        "std": _per_cent(row.std),
        "95 % CI": "-" if math.isnan(row.half_width) else f"{sign} {row.half_width:.2f}",
        "best": best,
        "worst": worst,
        "digits": _per_cent(row.digits),
        "failed": str(row.failures),
    }


def _per_cent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
