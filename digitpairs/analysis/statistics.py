"""Paired comparisons of two configurations over the same seeds, by scipy's and statsmodels' tests.

For a given seed, every configuration sees the same pairs in the same order, so values are compared
seed by seed. Below `ENOUGH` seeds no difference is called significant: the smallest two-sided p of
a sign-flip test is 2 / 2^n.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALPHA, ENOUGH = 0.05, 6
RESAMPLES = 9_999  # of the bootstrap, and of the sign flips where more of them exist


class Comparison(NamedTuple):
    """The differences "first minus second" over the seeds."""

    n: int
    difference: float  # mean; nan without seeds
    interval: tuple[float, float]  # 95 %, BCa bootstrap (Efron 1987); nan below two seeds
    effect: float  # d_z: the mean difference divided by the differences' standard deviation
    less: float  # share of the seeds whose first value is lower; a tie counts half


def compare(first: Sequence[float], second: Sequence[float], expanded: bool = True) -> Comparison:
    """Compare paired values; raises ValueError where their numbers differ.

    See `bca_interval` for `expanded`.
    """
    if len(first) != len(second):
        raise ValueError(f"paired values must be equally many, not {len(first)} and {len(second)}")
    difference = np.subtract(first, second)
    n = len(difference)
    if n == 0:
        return Comparison(0, math.nan, (math.nan, math.nan), math.nan, math.nan)
    mean = float(difference.mean())
    less = float((difference < 0).mean() + (difference == 0).mean() / 2)
    varies = n > 1 and np.ptp(difference) > 0
    effect = mean / float(difference.std(ddof=1)) if varies else math.nan
    return Comparison(n, mean, bca_interval(difference, expanded), effect, less)


def sign_flip(difference: np.ndarray) -> float:
    """Two-sided p of the mean difference under random changes of sign; 1 below two seeds.

    The test is exact up to `RESAMPLES` combinations of signs, and samples them above.
    """
    from scipy import stats

    n = len(difference)
    if n < 2:
        return 1.0
    if 2**n <= RESAMPLES:
        test = stats.permutation_test((difference,), np.mean, permutation_type="samples")
    else:  # the same test with the same signs, at a tenth of the time

        def flipped(size: tuple[int, int]) -> np.ndarray:
            return difference * _signs(*size)

        test = stats.monte_carlo_test(difference, flipped, np.mean, n_resamples=RESAMPLES)
    return float(test.pvalue)


@functools.lru_cache(maxsize=2)  # the comparisons of a sweep have as many seeds each
def _signs(resamples: int, n: int) -> np.ndarray:
    """Random signs, as `permutation_test` draws them."""
    pairs = np.tile([1, -1], (resamples, n, 1))
    return np.random.default_rng(0).permuted(pairs, axis=-1)[..., 0].astype(np.int8)


def bca_interval(difference: np.ndarray, expanded: bool = True) -> tuple[float, float]:
    """95 % confidence interval of the mean; nan below two values, or where too few differ.

    The BCa bootstrap (Efron 1987) is too narrow for few values: over ten normal values it covers
    the mean in 91 % of cases. `expanded` takes wider percentiles, for which that is 95 %
    (Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 5.3).
    """
    from scipy import stats

    if len(difference) < 2:
        return math.nan, math.nan
    if np.ptp(difference) == 0:  # equal values have no spread
        return float(difference.mean()), float(difference.mean())
    # Of two values, or where too few differ, scipy's interval is nan, with warnings.
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        bootstrap = stats.bootstrap(
            (difference,),
            np.mean,
            n_resamples=RESAMPLES,
            method="BCa",
            confidence_level=_expanded_level(len(difference)) if expanded else 1 - ALPHA,
            rng=np.random.default_rng(0),
        )
    interval = bootstrap.confidence_interval
    return float(interval.low), float(interval.high)


def _expanded_level(n: int) -> float:
    """The level at which percentiles of the mean of n normal values are as wide as Student's t."""
    from scipy.special import ndtr, stdtrit

    return 1 - 2 * float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 1 - ALPHA / 2)))


def seeds_needed(effect: float) -> float:
    """Seeds for a paired t-test at 5 % with a power of 80 % at this d_z; nan or inf if none.

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
    """Absolute deviation of each value from the median."""
    return np.abs(np.subtract(values, np.median(values))) if len(values) else np.empty(0)


def spread_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p for equal spread: the sign-flip test of the deviations from the medians.

    As in the test of Brown and Forsythe (1974), an outlier changes the result less than it changes
    the result of a test of variances.
    """
    return sign_flip(deviations(first) - deviations(second))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for multiple tests by Holm's method (1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
