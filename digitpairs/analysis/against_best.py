"""The lines at the end of a sweep: how sure it is that the best configuration is the best."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from digitpairs.analysis import groups
from digitpairs.analysis.frames import TEST_SET, load
from digitpairs.analysis.tables import interval, p_value

MOST = 8  # configurations that are compared with the best


def lines_against_best(results: Mapping[Path, Iterable[Path]]) -> list[str]:
    """For each test set, a line for each of the next best configurations.

    Only these are compared, since hundreds of bootstraps would take longer than short runs. Their p
    is adjusted as if the others were compared as well.

    Args:
        results: the folders of the finished runs by configuration, the best one first.
    """
    folders = [run for runs in itertools.islice(results.values(), MOST + 1) for run in runs]
    if not folders:
        return []
    runs = load(*folders)
    others = max(0, len(results) - MOST - 1)
    tested = groups.summarise(runs)
    lines: list[str] = []
    for _, part in tested[tested["n"] > 0].groupby(TEST_SET, sort=False):
        if len(part) > 1:
            best = part["group"].iloc[0]
            compared = groups.compare_groups(runs, baseline=best, others=others)
            lines += _lines(best, compared.to_dict("records"))
    return lines


def _lines(best: str, rows: Sequence[dict]) -> list[str]:
    """The rows as text in columns; a positive difference is worse than the best."""
    cells = [
        (
            row["second"],
            f"{0.0 - row['difference']:+.2f}",
            interval(0.0 - row["high"], 0.0 - row["low"]),
            f"p = {p_value(row['p_holm'])}",
            f"n = {row['n']}",
            row["verdict"],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells)]
    head = f"Above the best, {best} (by seed; 95 % interval; sign-flip p, Holm):"
    return [
        head,
        *(
            "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
            for row in cells
        ),
    ]
