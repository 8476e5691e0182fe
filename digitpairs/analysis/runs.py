"""Finished runs, read from their folders."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from digitpairs import files, inventory, records
from digitpairs.checks import DigitPairsWarning
from digitpairs.names import Names, display_names

RELABELLED = "test/relabelled_digit_error"
# The files, beside the result, from which tables and plots are made.
CHECKED = (files.CONFIG, files.METRICS, files.CONFUSION, files.BOUNDARY)

T = TypeVar("T")


class Run:
    """A finished run; its files are read when they are first used.

    Args:
        folder: the run's folder.
        result: the content of its result.json.
    """

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder, self.result = folder, result

    def value(self, metric: str) -> float | None:
        """A metric of the run, None where it has none.

        The name is one of the result's entries or `RELABELLED`. "test/comparison_error@30" is the
        value after epoch 30, and "test/comparison_error@best" is the lowest over the epochs.
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
        """The metric's values in the order of the epochs, without the epochs that lack it."""
        return [row[metric] for row in self.history if metric in row]

    @functools.cached_property
    def history(self) -> list[dict[str, float]]:
        """The metrics by name, one dictionary per epoch."""
        return records.read_metrics(self.folder)

    @functools.cached_property
    def confusion(self) -> dict[str, Any] | None:
        """Counts of test images by digit and answer, for each image of the pair.

        None where the network does not classify digits.
        """
        return records.read_confusion(self.folder)

    def _relabelled(self) -> float | None:
        if self.confusion is None:
            return None
        return relabelled_digit_error(np.array(list(self.confusion.values())))


def relabelled_digit_error(confusions: np.ndarray) -> float:
    """The digits' error in per cent after the best relabelling of the answers.

    A network without a digit loss has no reason to give its answers in the order of the digits. The
    answers for each image are assigned to the digits such that as many as possible are correct
    (`scipy.optimize.linear_sum_assignment`).

    Args:
        confusions: counts (images, 10, 10); rows are digits, columns answers.
    """
    from scipy.optimize import linear_sum_assignment

    correct = 0
    for confusion in confusions:
        correct += confusion[linear_sum_assignment(confusion, maximize=True)].sum()
    return 100 * (1 - correct / confusions.sum())


def finished_runs(folder: Path, pattern: str) -> list[Run]:
    """The finished runs whose folders match the pattern, sorted by configuration and seed.

    Damaged runs are left out with a warning that names the file. Checkpoints and TensorBoard's
    events are not checked, since no table or plot needs them.
    """
    results = folder.glob(f"{pattern}/{files.RESULT}")
    folders = [path.parent for path in results if re.fullmatch("seed=[0-9]+", path.parent.name)]
    folders.sort(key=lambda path: (path.parts[:-1], int(path.name.removeprefix("seed="))))
    return undamaged(folders, read_run)


def undamaged(folders: Iterable[Path], read: Callable[[Path], T | None]) -> list[T]:
    """What `read` returns for each folder, without None and without damaged files.

    A warning names each damaged file.
    """
    contents, damages = [], []
    for folder in folders:
        try:
            contents.append(read(folder))
        except files.DamagedFileError as damage:
            damages.append(damage)
    for line in files.damage_messages(damages, "it is left out"):
        warnings.warn(line, DigitPairsWarning, stacklevel=2)
    return [content for content in contents if content is not None]


def read_run(folder: Path) -> Run | None:
    """The finished run in a folder; None if there is no result. Raises DamagedFileError."""
    result = records.read_result(folder)
    if result is None:  # removed since the folders were listed
        return None
    inventory.refuse_damage(folder, result, only=CHECKED)
    if files.FILES not in result:  # without digests, only reading a file shows its damage
        records.read_metrics(folder)
        records.read_confusion(folder)
    if folder.name != f"seed={result['seed']}":
        raise files.DamagedFileError(folder / files.RESULT, f"it is of seed={result['seed']}")
    return Run(folder, result)


def names_of(folders: Sequence[Path]) -> Names:
    """The display names of the configurations of these finished runs, by their folders' names."""
    first = {folder.parent.name: folder for folder in reversed(folders)}
    origins = {
        configuration: records.origin_of(records.read_result(folder) or {})
        for configuration, folder in first.items()
    }
    configs = configs_of(folders)
    return display_names(configs, {name: origins[name] for name in configs})


def configs_of(runs: Iterable[Path]) -> dict[str, dict[str, Any] | None]:
    """The config of each configuration's first run that has a readable one, None where none has.

    Configurations are identified by the name of the folder that holds their runs.
    """
    configs: dict[str, dict[str, Any] | None] = {}
    for folder in runs:
        configuration = folder.parent.name
        if configs.setdefault(configuration) is None:
            try:
                configs[configuration] = records.read_config(folder)
            except files.DamagedFileError:  # the names can be made without it
                continue
    return configs
