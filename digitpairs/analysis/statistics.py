"""Comparisons of two recipes over the same seeds, by scipy's and statsmodels' tests.

The same seed means the same pairs and order for every recipe, so that values are compared seed by seed. Below `ENOUGH` seeds nothing
is called significant: the smallest two-sided p of a sign-flip test is 2 / 2^n.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALPHA, ENOUGH = 0.05, 6
RESAMPLES = 9_999  # of the bootstrap, and of sign flips where there are more of them than that


class Comparison(NamedTuple):
    """First minus second, by seed."""

    n: int
    difference: float  # mean; nan without seeds
    interval: tuple[float, float]  # 95 %, BCa bootstrap (Efron 1987); nan below two seeds
    effect: float  # d_z, the mean difference in its standard deviations
    less: float  # share of the seeds whose first value is less, ties counting half


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """The comparison of paired values, as many in both; ValueError otherwise."""
    if len(first) != len(second):
        raise ValueError(
            f"pairs of values are compared, and these are {len(first)} and {len(second)}"
        )
    difference = np.subtract(first, second)
    n = len(difference)
    less = float((difference < 0).mean() + (difference == 0).mean() / 2) if n else math.nan
    mean = float(difference.mean()) if n else math.nan
    if n < 2 or np.ptp(difference) == 0:  # nothing to resample; equal differences have no spread
        interval = (mean, mean) if n > 1 else (math.nan, math.nan)
        return Comparison(n, mean, interval, math.nan, less)
    return Comparison(n, mean, bca_interval(difference), mean / float(difference.std(ddof=1)), less)


def sign_flip(difference: np.ndarray) -> float:
    """Two-sided p of the mean difference under exchanges of sign; all of them, up to `RESAMPLES`. 1 below two seeds."""
    from scipy import stats

    if len(difference) < 2:
        return 1.0
    asked = stats.permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(asked.pvalue)


def bca_interval(difference: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean."""
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", stats.DegenerateDataWarning
        )  # few different values: then the interval is nan, and said so
        asked = stats.bootstrap(
            (difference,),
            np.mean,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(0),
        )
    return float(asked.confidence_interval.low), float(asked.confidence_interval.high)


def seeds_needed(effect: float) -> float:
    """Seeds for which a paired t-test finds this d_z at 5 % with a power of 80 %; nan or inf if none.

    An estimate from the seeds at hand: it is as uncertain as the effect itself.
    """
    from statsmodels.stats.power import TTestPower

    if math.isnan(effect):
        return math.nan
    if abs(effect) < 0.01:  # over 78,000 seeds
        return math.inf
    if abs(effect) > 5:  # statsmodels' search fails below three seeds
        return 3.0
    return float(math.ceil(TTestPower().solve_power(abs(effect), alpha=ALPHA, power=0.8)))


def half_width(n: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Half widths of the 95 % intervals of means (Student's t); nan below two values."""
    from scipy.special import stdtrit

    freedom = np.maximum(np.asarray(n, dtype=float) - 1, 1)
    width = stdtrit(freedom, 1 - ALPHA / 2) * std / np.sqrt(np.maximum(n, 1))
    return np.where(np.asarray(n) > 1, width, np.nan)


def deviations(values: Sequence[float]) -> np.ndarray:
    """How far each value is from their median."""
    return np.abs(np.subtract(values, np.median(values))) if len(values) else np.empty(0)


def spread_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p that paired values deviate from their medians alike: the sign-flip test of the deviations.

    As in the test of Brown and Forsythe (1974), single values far from the others mislead it less than they do tests of variances.
    """
    return sign_flip(deviations(first) - deviations(second))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for the family (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
