"""The comparisons, against their definitions."""

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
    first, second = random.normal(size=n), random.normal(0.5, size=n)
    difference = first - second
    means = [
        np.mean(np.array(signs) * difference) for signs in itertools.product([-1, 1], repeat=n)
    ]
    p = np.mean([abs(mean) >= abs(difference.mean()) - 1e-12 for mean in means])
    assert sign_flip(difference) == pytest.approx(p)


def test_what_a_comparison_says():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0], [2.0, 3.0, 5.0, 4.0, 6.5, 9.0]
    said = compare(first, second)
    difference = np.subtract(first, second)
    assert (
        said.n == 6
        and said.difference == pytest.approx(difference.mean())
        and said.less == pytest.approx(5.5 / 6)
    )
    assert said.effect == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert said.interval[0] < said.difference < said.interval[1] < 0
    reverse = compare(second, first)
    assert (
        sign_flip(-difference) == sign_flip(difference) and reverse.difference == -said.difference
    )


def test_an_interval_covers_the_mean_as_often_as_it_says(random):
    covered = [
        low <= 1 <= high
        for low, high in (
            compare(random.exponential(1, 30), np.zeros(30)).interval for _ in range(200)
        )
    ]
    assert 0.88 < np.mean(covered) < 0.985


def test_few_or_equal_values():
    none, one, equal = compare([], []), compare([1.0], [2.0]), compare([2.0, 3.0], [1.0, 2.0])
    assert none.n == 0 and math.isnan(none.difference) and sign_flip(np.empty(0)) == 1
    assert one.difference == -1 and sign_flip(np.array([-1.0])) == 1 and math.isnan(one.interval[0])
    assert (
        equal.interval == (1.0, 1.0) and sign_flip(np.ones(2)) == 0.5 and math.isnan(equal.effect)
    )
    with pytest.raises(ValueError, match="2 and 1"):
        compare([1.0, 2.0], [1.0])


def test_spread(random):
    """Small where one varies more; as often below 5 % as it should be where they vary alike, with heavy tails and with a wild value as well."""
    assert spread_p(random.normal(0, 1, 30), random.normal(0, 4, 30)) < 0.001
    pairs = (
        random.normal(0, 1, (150, 2, 10)),
        random.standard_t(3, (150, 2, 10)),
        random.normal(0, 1, (150, 2, 10)),
    )
    pairs[2][range(150), random.integers(0, 2, 150), 0] += 8
    for each in pairs:
        below = np.mean([spread_p(first, second) < 0.05 for first, second in each])
        assert below < 0.11
    assert (
        spread_p([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 1
        and spread_p([1.0], [2.0]) == 1
        and spread_p([], []) == 1
    )


def test_spread_is_the_exchange_of_the_deviations_within_pairs(random):
    first, second = random.normal(3, 1, 7), random.normal(5, 2, 7)
    away = np.stack([abs(first - np.median(first)), abs(second - np.median(second))])
    said = away[0].sum() - away[1].sum()
    swapped = [
        sum(pair[swap] - pair[1 - swap] for pair, swap in zip(away.T, swaps))
        for swaps in itertools.product([0, 1], repeat=7)
    ]
    assert spread_p(first, second) == pytest.approx(
        np.mean([abs(each) >= abs(said) - 1e-12 for each in swapped])
    )


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
