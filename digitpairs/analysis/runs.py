"""What a finished run left, read from its folder."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from digitpairs import files, inventory, records
from digitpairs.checks import DigitPairsWarning

RELABELLED = "test/relabelled_digit_error"
SHOWN = (
    files.CONFIG,
    files.METRICS,
    files.CONFUSION,
    files.BOUNDARY,
)  # of which tables and plots are made, beside the result

T = TypeVar("T")


class Run:
    """A finished run, read from its folder as far as it is asked for."""

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder, self.result = folder, result

    def value(self, metric: str) -> float | None:
        """A metric of its result; `RELABELLED`; as "test/comparison_error@30" of its 30th epoch, as "...@best" the least of all epochs. None
        for one that it has not, as the digits' error of a network that names none.
        """
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
        return records.read_metrics(self.folder)

    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return records.read_config(self.folder)

    @functools.cached_property
    def confusion(self) -> dict[str, Any] | None:
        """How often each digit got each answer in the test, for each image; None of a network that names no digits."""
        return records.read_confusion(self.folder)

    def _relabelled(self) -> float | None:
        return (
            None
            if self.confusion is None
            else relabelled_digit_error(np.array(list(self.confusion.values())))
        )


def relabelled_digit_error(confusions: np.ndarray) -> float:
    """The digits' error in per cent after the best relabelling of the answers: confusions (images, 10, 10), a row a digit.

    A network that is not trained to name digits has no reason to give its answers in their order. The answers for each image are
    assigned to the digits so that as many as possible are right (`scipy.optimize.linear_sum_assignment`).
    """
    from scipy.optimize import linear_sum_assignment

    right = sum(each[linear_sum_assignment(each, maximize=True)].sum() for each in confusions)
    return 100 * (1 - right / confusions.sum())


def finished_runs(folder: Path, pattern: str) -> list[Run]:
    """Those whose folders match the pattern below the folder, in the order of configurations and seeds.

    Damaged ones are left out with a warning that names the file. Checkpoints and events are not looked at: no figure is made of
    them.
    """
    there = (
        path.parent
        for path in folder.glob(f"{pattern}/{files.RESULT}")
        if re.fullmatch("seed=[0-9]+", path.parent.name)
    )
    ordered = sorted(
        there, key=lambda path: (path.parts[:-1], int(path.name.removeprefix("seed=")))
    )
    return undamaged(ordered, _finished_run)


def undamaged(folders: Iterable[Path], read: Callable[[Path], T | None]) -> list[T]:
    """What is read from each folder. Damaged files are left out with a warning that names them, and so is what is None."""
    found, damages = [], []
    for folder in folders:
        try:
            found.append(read(folder))
        except files.DamagedFileError as damage:
            damages.append(damage)
    for line in files.damage_messages(damages, "it is left out"):
        warnings.warn(line, DigitPairsWarning, stacklevel=2)
    return [each for each in found if each is not None]


def _finished_run(folder: Path) -> Run | None:
    result = records.read_result(folder)
    if result is None:  # removed in the meantime
        return None
    inventory.refuse_damage(folder, result, only=SHOWN)
    if files.FILES not in result:  # without digests only reading shows damage
        records.read_metrics(folder)
        records.read_confusion(folder)
    if folder.name != f"seed={result['seed']}":
        raise files.DamagedFileError(folder / files.RESULT, f"it is of seed={result['seed']}")
    return Run(folder, result)


def configs_of(runs: Iterable[Path]) -> dict[str, dict[str, Any] | None]:
    """By configuration (the name of the folder around a run's) the config of its first run that has a readable one, or None."""
    configs: dict[str, dict[str, Any] | None] = {}
    for folder in runs:
        if configs.setdefault(folder.parent.name) is None:
            try:
                configs[folder.parent.name] = records.read_config(folder)
            except files.DamagedFileError:  # names are made without it
                continue
    return configs
