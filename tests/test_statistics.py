"""The comparisons, against their definitions."""

import itertools
import math

import numpy as np
import pytest

from digitpairs.analysis.statistics import compare, holm, spread_p


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_sign_flip_test_is_exact(n, random):
    first, second = random.normal(size=n), random.normal(0.5, size=n)
    difference = first - second
    means = [np.mean(np.array(signs) * difference) for signs in itertools.product([-1, 1], repeat=n)]
    p = np.mean([abs(mean) >= abs(difference.mean()) - 1e-12 for mean in means])
    assert compare(first, second).p == pytest.approx(p)


def test_what_a_comparison_says():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0], [2.0, 3.0, 5.0, 4.0, 6.5, 9.0]
    said = compare(first, second)
    difference = np.subtract(first, second)
    assert said.n == 6 and said.difference == pytest.approx(difference.mean()) and said.less == pytest.approx(5.5 / 6)
    assert said.effect == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert said.interval[0] < said.difference < said.interval[1] < 0
    reverse = compare(second, first)
    assert reverse.p == said.p and reverse.difference == -said.difference


def test_an_interval_covers_the_mean_as_often_as_it_says(random):
    covered = [low <= 1 <= high for low, high in (compare(random.exponential(1, 30), np.zeros(30)).interval for _ in range(200))]
    assert 0.88 < np.mean(covered) < 0.985


def test_few_or_equal_values():
    none, one, equal = compare([], []), compare([1.0], [2.0]), compare([2.0, 3.0], [1.0, 2.0])
    assert none.n == 0 and math.isnan(none.difference) and none.p == 1
    assert one.difference == -1 and one.p == 1 and math.isnan(one.interval[0])
    assert equal.interval == (1.0, 1.0) and equal.p == 0.5 and math.isnan(equal.effect)
    with pytest.raises(ValueError, match="2 and 1"):
        compare([1.0, 2.0], [1.0])


def test_spread(random):
    """Of paired normals: small where one varies more, uniform where they vary alike; the same as the F test's correlation form."""
    steady, wild = random.normal(0, 1, 40), random.normal(0, 4, 40)
    assert spread_p(steady, wild) < 1e-6
    n, r = 40, np.corrcoef(steady, wild)[0, 1]
    ratio = np.var(wild, ddof=1) / np.var(steady, ddof=1)
    t = (ratio - 1) * math.sqrt(n - 2) / math.sqrt(4 * ratio * (1 - r**2))
    from scipy import stats

    assert spread_p(steady, wild) == pytest.approx(2 * stats.t.sf(abs(t), n - 2))
    alike = [spread_p(*random.normal(0, 1, (2, 10))) for _ in range(300)]
    assert 0.02 < np.mean(np.array(alike) < 0.05) < 0.09
    assert spread_p([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 1 and spread_p([1.0], [2.0]) == 1


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
