"""The statistics against their definitions."""

import itertools
import math

import numpy as np
import pytest

from digitpairs.analysis.statistics import compare, holm, sign_flip, spread_p


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_sign_flip_test_is_exact(n, random):
    difference = random.normal(size=n) - random.normal(0.5, size=n)
    signs = np.array(list(itertools.product([-1, 1], repeat=n)))
    means = (signs * difference).mean(1)
    p = np.mean(abs(means) >= abs(difference.mean()) - 1e-12)
    assert sign_flip(difference) == pytest.approx(p)
    assert sign_flip(-difference) == sign_flip(difference)


def test_a_comparison_has_the_statistics_of_the_differences():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0], [2.0, 3.0, 5.0, 4.0, 6.5, 9.0]
    comparison = compare(first, second)
    difference = np.subtract(first, second)
    assert comparison.n == 6
    assert comparison.difference == pytest.approx(difference.mean())
    assert comparison.less == pytest.approx(5.5 / 6)
    assert comparison.effect == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert comparison.interval[0] < comparison.difference < comparison.interval[1] < 0
    assert compare(second, first).difference == -comparison.difference


@pytest.mark.slow
def test_an_interval_covers_the_mean_with_its_probability(random):
    covered = []
    for _ in range(200):
        low, high = compare(random.exponential(1, 30), np.zeros(30)).interval
        covered.append(low <= 1 <= high)
    assert 0.88 < np.mean(covered) < 0.985


def test_few_or_equal_values():
    none, one, equal = compare([], []), compare([1.0], [2.0]), compare([2.0, 3.0], [1.0, 2.0])
    assert none.n == 0 and math.isnan(none.difference) and sign_flip(np.empty(0)) == 1
    assert one.difference == -1 and sign_flip(np.array([-1.0])) == 1
    assert math.isnan(one.interval[0])
    assert equal.interval == (1.0, 1.0) and math.isnan(equal.effect)
    assert sign_flip(np.ones(2)) == 0.5
    with pytest.raises(ValueError, match="2 and 1"):
        compare([1.0, 2.0], [1.0])


def test_the_spread_test_detects_a_larger_spread(random):
    assert spread_p(random.normal(0, 1, 30), random.normal(0, 4, 30)) < 0.001


@pytest.mark.slow
def test_the_spread_test_keeps_its_level(random):
    """Equal spreads are rejected in about 5 % of samples, heavy tails and outliers included."""
    normal = random.normal(0, 1, (150, 2, 10))
    heavy_tails = random.standard_t(3, (150, 2, 10))
    outliers = random.normal(0, 1, (150, 2, 10))
    outliers[range(150), random.integers(0, 2, 150), 0] += 8
    for samples in (normal, heavy_tails, outliers):
        assert np.mean([spread_p(first, second) < 0.05 for first, second in samples]) < 0.11


@pytest.mark.parametrize(
    "first, second", [([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]), ([1.0], [2.0]), ([], [])]
)
def test_values_without_spread_are_alike(first, second):
    assert spread_p(first, second) == 1


def test_the_spread_test_exchanges_deviations_within_pairs(random):
    first, second = random.normal(3, 1, 7), random.normal(5, 2, 7)
    difference = abs(first - np.median(first)) - abs(second - np.median(second))
    signs = np.array(list(itertools.product([-1, 1], repeat=7)))
    p = np.mean(abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
    assert spread_p(first, second) == pytest.approx(p)


@pytest.mark.slow
def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
