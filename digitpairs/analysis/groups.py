"""Groups of runs: their means, their differences, and the effects of the factors of a grid.

Values are compared by seed: the same seed gives the same pairs and the same order to every group.
Groups on different data, or with test sets of different sizes, are never compared.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from digitpairs import records
from digitpairs.analysis import statistics
from digitpairs.analysis.frames import TEST_SET, Runs
from digitpairs.checks import InvalidValueError, suggestion

SUMMARY = ["group", *TEST_SET, "n", "mean", "std", "low", "high"] + [
    "best",
    "best_seed",
    "worst",
    "worst_seed",
    "seconds",
    "failed",
]
MAX_PAIRS = 45  # of groups; with more groups than ten each one is compared with the best alone


def metric_of(runs: Runs, metric: str | None) -> str:
    """The metric, or the first test error that the runs have. InvalidValueError for another."""
    known = [name for name in runs.runs.columns if "/" in name]
    if metric is None:
        present = [name for name in records.TEST_ERRORS if name in known]
        if not present:
            raise InvalidValueError("folder", "no finished run", "at least one run with a result")
        return present[0]
    if metric not in known:
        accepted = f"one of {', '.join(sorted(known))}{suggestion(metric, known)}"
        raise InvalidValueError("--metric", metric, accepted)
    return metric


@functools.lru_cache(maxsize=8)  # tables, comparisons and plots need it
def summarise(runs: Runs, metric: str | None = None) -> pd.DataFrame:
    """A row for each group and test set, the lowest mean first.

    Columns: group, source, test_examples, n, mean, std (ddof 1), low and high (95 % BCa interval
    of the mean), best, best_seed, worst, worst_seed, failed, seconds (of all its runs).
    """
    name = metric_of(runs, metric)
    frame = runs.runs
    failed = frame[frame["failure"].notna()].groupby("group").size()
    rows = [
        dict(zip(["group", *TEST_SET], key, strict=True)) | _summary(part, name)
        for key, part in frame[frame["failure"].isna()].groupby(["group", *TEST_SET], sort=False)
    ]
    missing = sorted(set(failed.index) - {row["group"] for row in rows})
    table = pd.DataFrame(rows + [{"group": group, "n": 0} for group in missing])
    table["failed"] = table["group"].map(failed).fillna(0).astype(int)
    columns = [column for column in SUMMARY if column in table]
    return table[columns].sort_values(["source", "mean"], ignore_index=True)


def _summary(part: pd.DataFrame, metric: str) -> dict[str, Any]:
    values = part.set_index("seed")[metric].dropna()
    ends = {"best": values.idxmin(), "worst": values.idxmax()} if len(values) else {}
    return {
        **_mean_of_seeds(values),
        "std": values.std(),
        **{name: values[seed] for name, seed in ends.items()},
        **{f"{name}_seed": seed for name, seed in ends.items()},
        "seconds": part["seconds"].sum(),
    }


def compare_groups(
    runs: Runs, metric: str | None = None, baseline: str | None = None, others: int = 0
) -> pd.DataFrame:
    """A row for each pair of groups on the same test set, compared on the seeds that both have.

    Each group is compared with the baseline; without one, all pairs are compared, or each group
    with the best where there are more than `MAX_PAIRS` pairs. Columns: first, second (groups),
    source, test_examples, n (shared seeds), difference (mean of first minus second), low and high
    (95 % BCa), p (two-sided sign-flip test), p_holm (adjusted for all rows of the test set), d_z,
    p_better (probability that first is lower, ties counting half), seeds_needed (for a power of
    80 % at 5 % if the difference is as large as it seems), verdict.

    With `others`, p is adjusted as if there were so many more comparisons, with a p of 1.

    Raises:
        InvalidValueError: for a baseline that is no group.
    """
    name = metric_of(runs, metric)
    groups = summarise(runs, name)
    if baseline is not None and baseline not in set(groups["group"]):
        known = list(groups["group"])
        accepted = f"one of {', '.join(known)}{suggestion(baseline, known)}"
        raise InvalidValueError("--baseline", baseline, accepted)
    rows: list[dict[str, Any]] = []
    for test_set, part in groups[groups["n"] > 0].groupby(TEST_SET, sort=False):
        values = _by_seed(runs, name, test_set)
        compared = [
            {"first": first, "second": second, **dict(zip(TEST_SET, test_set, strict=True))}
            | _comparison(values[[first, second]].dropna())
            for first, second in _pairs(list(part["group"]), baseline)
        ]
        adjusted = statistics.holm([row["p"] for row in compared] + [1.0] * others)
        rows += [row | {"p_holm": p} for row, p in zip(compared, adjusted)]
    for row in rows:
        row["verdict"] = _verdict(row["n"], row["p_holm"])
    return pd.DataFrame(rows)


def _by_seed(runs: Runs, metric: str, test_set: Sequence[Any]) -> pd.DataFrame:
    """The metric by seed (rows) and group (columns) on one test set."""
    frame = runs.runs
    same = (frame[TEST_SET] == list(test_set)).all(axis=1)
    return frame[same].pivot_table(index="seed", columns="group", values=metric)


def _pairs(groups: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """The pairs to compare; the groups are sorted by mean."""
    if baseline is None and math.comb(len(groups), 2) <= MAX_PAIRS:
        return list(itertools.combinations(groups, 2))
    reference = groups[0] if baseline is None else baseline
    if reference not in groups:  # it has no run on this test set
        return []
    others = [group for group in groups if group != reference]
    return [(reference, other) for other in others]


def _comparison(values: pd.DataFrame) -> dict[str, Any]:
    first, second = values.to_numpy().T
    compared = statistics.compare(first, second)
    return {
        "n": compared.n,
        "difference": compared.difference,
        "low": compared.interval[0],
        "high": compared.interval[1],
        "p": statistics.sign_flip(first - second),
        "d_z": compared.effect,
        "p_better": compared.less,
        "seeds_needed": statistics.seeds_needed(compared.effect),
    }


def _verdict(n: int, p: float) -> str:
    """In words; "significant" needs at least `statistics.ENOUGH` shared seeds."""
    if n < statistics.ENOUGH:
        return "too few seeds"
    return "significant" if p <= statistics.ALPHA else "not decided"


def factors(runs: Runs) -> list[str]:
    """The settings that vary on a test set, without those that only vary with another one."""
    frame = runs.runs[runs.runs["failure"].isna()]
    test_sets = [frame[name] for name in TEST_SET]
    seen: dict[tuple[int, ...], str] = {}
    for setting in runs.settings:
        values = frame[setting].map(repr)
        if values.groupby(test_sets).nunique().max() > 1:
            seen.setdefault(tuple(pd.factorize(values)[0]), setting)
    return list(seen.values())


def effects(runs: Runs, metric: str | None = None) -> pd.DataFrame:
    """A row for each test set, factor and value: the mean over all values of the other factors.

    Columns: source, test_examples, factor, value, n (seeds), mean, low and high (95 % BCa over
    seeds). Without a full grid a mean is that over the runs that there are.
    """
    name = metric_of(runs, metric)
    frame = runs.runs[runs.runs["failure"].isna()]
    rows: list[dict[str, Any]] = []
    for factor in factors(runs):
        for key, part in frame.groupby([*TEST_SET, factor], sort=True, dropna=False):
            by_seed = part.groupby("seed")[name].mean().dropna()
            if len(by_seed):
                where = dict(zip([*TEST_SET, "value"], key, strict=True))
                rows.append({**where, "factor": factor, **_mean_of_seeds(by_seed)})
    columns = [*TEST_SET, "factor", "value", "n", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _mean_of_seeds(values: pd.Series) -> dict[str, Any]:
    """n, mean and its 95 % BCa interval, nan below two seeds."""
    low, high = statistics.bca_interval(values.to_numpy())
    return {"n": len(values), "mean": values.mean(), "low": low, "high": high}


def heat_map(runs: Runs, row: str, column: str, metric: str | None = None) -> pd.DataFrame:
    """The mean of the metric for each pair of values of two factors.

    Raises:
        InvalidValueError: for runs on several test sets, which have no mean in common.
    """
    name = metric_of(runs, metric)
    tested = runs.runs[TEST_SET].dropna().drop_duplicates()
    if len(tested) > 1:
        raise InvalidValueError("folder", ", ".join(tested["source"]), "runs on one test set")
    return runs.runs.pivot_table(index=row, columns=column, values=name, aggfunc="mean")


def by_epoch(runs: Runs, metric: str) -> pd.DataFrame:
    """A row for each group and epoch: group, epoch, n, mean, std, low and high (Student's t, 95 %).

    Raises:
        InvalidValueError: for a metric that is not measured after each epoch.
    """
    curves = runs.curves
    if metric not in curves:
        known = [name for name in curves.columns if "/" in name or name == "learning_rate"]
        accepted = f"one of {', '.join(known)}{suggestion(metric, known)}"
        raise InvalidValueError("--by epoch --metric", metric, accepted)
    frame = curves.join(runs.runs["group"], on="run")
    grouped = frame.groupby(["group", "epoch"], sort=False)[metric]
    table = grouped.agg(n="count", mean="mean", std="std").reset_index()
    half = statistics.half_width(table["n"].to_numpy(), table["std"].to_numpy())
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def with_unit(metric: str) -> str:
    """The metric and its unit: errors are in per cent, losses in nats, and others have none."""
    unit = {"error": ", %", "loss": ", nats"}.get(metric.rpartition("_")[2].rpartition("/")[2], "")
    return f"{metric}{unit}"
