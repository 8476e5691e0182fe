"""Pairs of a run's test set that its networks find hard, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from digitpairs import files, records
from digitpairs.checks import DataError, InvalidValueError
from digitpairs.data import PairDataModule, idx, sources
from digitpairs.data.pairs import PairSet
from digitpairs.targets import import_target
from digitpairs.use.comparer import Comparer


class Example(NamedTuple):
    """A test pair."""

    images: Tensor  # (2, 14, 14) in [0, 1]
    digits: tuple[int, int]


def hard_examples(comparer: Comparer, run: Path, count: int = 8) -> list[Example]:
    """The pairs of the run's test set with the smallest probability of the right answer.

    Nothing is downloaded. Raises DataError if the folder has no config, or if the data are not
    there.
    """
    pairs = _test_set(run).take(slice(None))
    probability = comparer.compare_images(pairs.images).probability
    right = np.where(pairs.target.numpy() == 1, probability, 1 - probability)
    rows = np.argsort(right, kind="stable")[:count].tolist()
    return [Example(pairs.images[row], tuple(pairs.digits[row].tolist())) for row in rows]


def _test_set(run: Path) -> PairSet:
    settings = dict(records.read_config(run)["data"])
    root = Path(settings.get("root") or sources.default_root())
    if settings.get("source") in ("auto", "mnist") and idx.find_folder(root) is None:
        raise DataError(f"MNIST is not in {root}")
    try:
        if import_target(settings.pop("_target_")) is not PairDataModule:
            raise DataError(f"{run / files.CONFIG} has data of another class")
        data = PairDataModule(**settings)
        data.prepare_data()
    except (KeyError, TypeError, InvalidValueError) as fault:
        raise DataError(f"{run / files.CONFIG} has data that cannot be drawn: {fault}") from fault
    data.setup()
    return data.test_set
