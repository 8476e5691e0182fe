"""Batches of trials, and which of them successive halving and hyperband prune.

A batch is a bracket: its trials train at the same time, and at each rung (a number of epochs) the
best of them go on. Which ones is a function of their held-out values alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from digitpairs.checks import InvalidValueError
from digitpairs.search.settings import SECTION, Settings

_HALVINGS = 2  # rungs by default: with a factor of 3 a ninth and a third of the epochs


class Bracket(NamedTuple):
    """A batch of trials, by their numbers."""

    first: int
    end: int  # exclusive
    rungs: list[int]  # epochs after which trials are pruned


def bracket_of(number: int, settings: Settings, epochs: int) -> Bracket:
    """The bracket of the trial with this number.

    Without hyperband all brackets are alike. Hyperband (Li et al. 2018, algorithm 1) repeats
    brackets from the one with the most rungs to the one with none; those with fewer rungs have
    fewer trials, so that all brackets cost about the same.
    """
    rungs = rungs_of(settings, epochs)
    sizes = _sizes(settings, len(rungs))
    first = number // sum(sizes) * sum(sizes)
    for left_out, size in enumerate(sizes):
        if number < first + size:
            return Bracket(first, first + size, rungs[left_out:])
        first += size
    raise AssertionError("a number is within the sizes' sum")


def rungs_of(settings: Settings, epochs: int) -> list[int]:
    """The epochs of all rungs: `min_epochs` times each power of the reduction factor.

    Raises InvalidValueError if no rung is before the last epoch.
    """
    if settings.pruner is None:
        return []
    factor = settings.reduction_factor
    first = settings.min_epochs or max(1, round(epochs / factor**_HALVINGS))
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= factor
    if not rungs:
        accepted = f"less than trainer.max_epochs={epochs}"
        raise InvalidValueError(f"{SECTION}.min_epochs", first, accepted)
    return rungs


def survivors(values: Mapping[int, float], settings: Settings) -> set[int]:
    """The trials that go on from a rung: of n, the n / `reduction_factor` best, rounded up.

    Args:
        values: of the trials at the rung, by number; of equal ones the smaller number is better.
        settings: with the direction and the factor.
    """
    sign = -1 if settings.directions[0] == "maximize" else 1
    ranked = sorted(values, key=lambda number: (sign * values[number], number))
    return set(ranked[: math.ceil(len(ranked) / settings.reduction_factor)])


def _sizes(settings: Settings, rungs: int) -> list[int]:
    """The numbers of trials of the brackets that leave out 0, 1, ... of the first rungs."""
    if settings.pruner != "hyperband":
        return [settings.batch_size]
    brackets, factor = rungs + 1, settings.reduction_factor
    return [
        -(-settings.batch_size * brackets // ((brackets - left_out) * factor**left_out))
        for left_out in range(brackets)
    ]
