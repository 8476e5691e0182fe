"""The table at the end of a sweep, computed from the files in its folder."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from digitpairs import files, records
from digitpairs.analysis.runs import undamaged
from digitpairs.names import Names
from digitpairs.terminal import plus_minus

METRICS = dict(zip(records.TEST_ERRORS, ("Test error of the comparison", "Test error")))
DIGITS = "test/digit_error"  # shown beside the comparison's error; some studies train nothing else
CONFIDENCE = 0.95
LONG_WORD = 24
_OPTIONAL_COLUMNS = ("digits", "failed")  # shown where a row has a value other than "-" and "0"


class Row(NamedTuple):
    """The runs of one configuration on one data source; errors in per cent."""

    configuration: str
    source: str
    metric: str  # a key of METRICS
    n: int
    mean: float
    std: float  # ddof 1; nan below two runs
    half_width: float  # of the mean's confidence interval, Student's t; nan below two runs
    best: tuple[float, int]  # error and seed
    worst: tuple[float, int]
    digits: float  # mean error of the digits; nan if the network does not classify digits
    failures: int
    seconds: float  # of all runs together


def read_rows(runs: Iterable[Path]) -> list[Row]:
    """One row per configuration and data source, read from the runs' folders, best mean first.

    Results of different sources are never averaged. Damaged results are left out with a warning.
    """
    results: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    failures: Counter[str] = Counter()
    for configuration, result in undamaged(runs, _read_outcome):
        if result is None:
            failures[configuration] += 1
        else:
            metric = next(name for name in METRICS if name in result)
            results[configuration, result["source"], metric].append(result)
    rows = [_row(*key, group, failures.pop(key[0], 0)) for key, group in results.items()]
    rows += [_row(configuration, "", "", [], count) for configuration, count in failures.items()]
    return sorted(rows, key=lambda row: (math.isnan(row.mean), row.mean, row.configuration))


def mean_std_half_width(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard deviation (ddof 1) and half width of the mean's confidence interval.

    The interval is Student's t interval. What cannot be computed from so few values is nan.
    """
    if not values:
        return math.nan, math.nan, math.nan
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, math.nan, math.nan
    # scipy.stats takes a second to import.
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
    return mean, std, quantile * std / math.sqrt(len(values))


def print_table(runs: Iterable[Path], console: Console, names: Names) -> None:
    """Print one table per data source, read from the runs' folders."""
    tables: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in read_rows(runs):
        tables[row.source, row.metric].append(row)
    for rows in tables.values():
        console.print(_table(rows, names, plus_minus(console)))


def _read_outcome(folder: Path) -> tuple[str, dict[str, Any] | None] | None:
    """The run's configuration and result (None if it failed); None if the run has not ended."""
    result = records.read_result(folder)
    if result is None and not (folder / files.FAILURE).exists():
        return None
    return folder.parent.name, result


def _row(
    configuration: str, source: str, metric: str, results: list[dict[str, Any]], failures: int
) -> Row:
    ranked = sorted((result[metric], result["seed"]) for result in results)
    mean, std, half_width = mean_std_half_width([error for error, _ in ranked])
    digit_errors = [result.get(DIGITS, math.nan) for result in results]
    return Row(
        configuration,
        source,
        metric,
        len(results),
        mean,
        std,
        half_width,
        best=ranked[0] if ranked else (math.nan, -1),
        worst=ranked[-1] if ranked else (math.nan, -1),
        digits=statistics.fmean(digit_errors) if results else math.nan,
        failures=failures,
        seconds=sum(result["seconds"] for result in results),
    )


def _table(rows: Sequence[Row], names: Names, sign: str) -> Table:
    """The table of rows with the same source and metric; `sign` stands for "plus or minus"."""
    # Text has no markup: brackets are part of names.
    title = Text(_title(rows[0], names.shared), style="table.title")
    table = Table(
        title=title,
        caption=_caption(rows),
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    shown = [names.of[row.configuration] for row in rows]
    longest = max(len(word) for name in shown for word in name.split())
    # The one column that shrinks on narrow terminals; words stay whole unless they are very long.
    table.add_column("config", overflow="fold", min_width=min(longest, LONG_WORD))
    cells = [_cells(row, sign) for row in rows]
    columns = []
    for name in cells[0]:
        texts = [row_cells[name] for row_cells in cells]
        if name not in _OPTIONAL_COLUMNS or not {"-", "0"}.issuperset(texts):
            table.add_column(name, justify="right", min_width=max(map(len, [name, *texts])))
            columns.append(texts)
    for row, *texts in zip(rows, *columns):
        table.add_row(Text(names.of[row.configuration]), *texts)
    return table


def _title(row: Row, shared: str) -> str:
    title = "No run finished"
    if row.source:
        title = f"{METRICS[row.metric]}, %, data: {row.source}"
    return f"{title}, {shared}" if shared else title


def _caption(rows: Sequence[Row]) -> str:
    digits = "" if all(math.isnan(row.digits) for row in rows) else "; digits: mean error"
    seconds = sum(row.seconds for row in rows)
    return f"best, worst: error (seed){digits}; {seconds:.0f} s of runs"


def _cells(row: Row, sign: str) -> dict[str, str]:
    """The row's text by column."""
    return {
        "n": str(row.n),
        "mean": _per_cent(row.mean),
        "std": _per_cent(row.std),
        "95 % CI": "-" if math.isnan(row.half_width) else f"{sign} {row.half_width:.2f}",
        "best": _error_and_seed(*row.best),
        "worst": _error_and_seed(*row.worst),
        "digits": _per_cent(row.digits),
        "failed": str(row.failures),
    }


def _per_cent(error: float) -> str:
    return "-" if math.isnan(error) else f"{error:.2f}"


def _error_and_seed(error: float, seed: int) -> str:
    return "-" if math.isnan(error) else f"{error:.2f} ({seed})"
