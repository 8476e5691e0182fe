"""What a finished run left, read from its folder."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from digitpairs import files

RELABELLED = "test/relabelled_digit_error"


class Run:
    """A finished run, read from its folder as far as it is asked for."""

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder, self.result = folder, result

    def value(self, metric: str) -> float | None:
        """A metric of its result; `RELABELLED`; as "test/comparison_error@30" of its 30th epoch, as "...@best" the least of all epochs. None
        for one that it has not, as the digits' error of a network that names none."""
        if metric == RELABELLED:
            return self._relabelled()
        name, _, epoch = metric.partition("@")
        if not epoch:
            return self.result.get(name)
        values = self.by_epoch(name)
        if epoch == "best":
            return min(values, default=None)
        return values[int(epoch) - 1] if int(epoch) <= len(values) else None

    def by_epoch(self, metric: str) -> list[float]:
        """A metric after each epoch that has it."""
        return [row[metric] for row in self.history if metric in row]

    @functools.cached_property
    def history(self) -> list[dict[str, float]]:
        """A row an epoch."""
        with (self.folder / files.METRICS).open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]

    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return yaml.safe_load((self.folder / files.CONFIG).read_text(encoding="utf-8"))

    @functools.cached_property
    def confusion(self) -> dict[str, Any] | None:
        """How often each digit got each answer in the test, for each image; None of a network that names no digits."""
        return files.read_json(self.folder / files.CONFUSION)

    def _relabelled(self) -> float | None:
        return None if self.confusion is None else relabelled_error(np.array(list(self.confusion.values())))


def relabelled_error(confusions: np.ndarray) -> float:
    """The digits' error in per cent after the best relabelling of the answers: confusions (images, 10, 10), a row a digit.

    A network that is not trained to name digits has no reason to give its answers in their order. The answers for each image are
    assigned to the digits so that as many as possible are right (`scipy.optimize.linear_sum_assignment`).
    """
    from scipy.optimize import linear_sum_assignment

    right = sum(each[linear_sum_assignment(each, maximize=True)].sum() for each in confusions)
    return 100 * (1 - right / confusions.sum())


def finished_runs(folder: Path, pattern: str) -> list[Run]:
    """Those whose folders match the pattern below the folder, in the order of configurations and seeds."""
    paths = sorted(folder.glob(f"{pattern}/{files.RESULT}"), key=lambda path: (path.parts[:-2], int(path.parent.name.removeprefix("seed="))))
    return [Run(path.parent, files.read_json(path)) for path in paths]
