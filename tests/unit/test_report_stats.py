"""Statistics against values known from elsewhere: by hand, by numpy, by exact theory."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.report import stats

finite = st.floats(min_value=1e-6, max_value=1e6, allow_nan=False)


def test_summary_of_known_values() -> None:
    found = stats.summarise([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found.count, found.least, found.median, found.greatest) == (5, 1.0, 3.0, 100.0)
    assert found.mean == 22.0
    assert found.p95 == pytest.approx(80.8)  # by linear interpolation: 4 + 0.8 * 96
    assert found.outliers == 1  # the fences are -1 and 7


def test_four_samples_give_no_interval() -> None:
    found = stats.summarise([1.0, 2.0, 3.0, 4.0])
    assert found.low is None and found.high is None
    assert stats.step([1.0] * 4, [2.0] * 9).clear is None


def test_no_samples_or_not_finite_is_refused() -> None:
    for bad in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(ValueError, match="finite"):
            stats.summarise(bad)


def test_interval_agrees_with_the_exact_bootstrap_of_the_median() -> None:
    """The bootstrap distribution of an odd-sized sample's median is known exactly (Efron 1979): compare quantiles."""
    values = [float(value) for value in range(1, 12)]
    n, half = len(values), len(values) // 2 + 1

    def below(at: int) -> float:
        """Probability that the resampled median is at most the at-th smallest value."""
        share = at / n
        return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(half, n + 1))

    low = next(values[at - 1] for at in range(1, n + 1) if below(at) >= 0.025)
    high = next(values[at - 1] for at in range(1, n + 1) if below(at) >= 0.975)
    found = stats.summarise(values)
    assert (found.low, found.high) == (low, high)


def test_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    drawn = random.Random(3)
    hits = 0
    for _ in range(200):
        found = stats.summarise([drawn.lognormvariate(0, 0.5) for _ in range(25)])
        assert found.low is not None and found.high is not None
        hits += found.low <= 1.0 <= found.high
    # Binomial(200, 0.95): fewer than 180 happens once in a thousand; 200 of 200 would be an interval that says nothing.
    assert 180 <= hits < 200


def test_the_same_samples_give_the_same_interval() -> None:
    values = [random.Random(1).random() for _ in range(30)]
    assert stats.summarise(values) == stats.summarise(values)


@given(st.lists(finite, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_summary_agrees_with_numpy(values: list[float]) -> None:
    found = stats.summarise(values)
    assert found.median == pytest.approx(float(np.median(values)))
    assert found.least <= found.median <= found.greatest
    if found.low is not None and found.high is not None:
        assert found.least <= found.low <= found.high <= found.greatest


@given(st.lists(finite, min_size=1, max_size=15), st.lists(finite, min_size=1, max_size=15))
@settings(max_examples=100, deadline=None)
def test_cliffs_delta_agrees_with_counting_pairs(first: list[float], second: list[float]) -> None:
    signs = [(b > a) - (b < a) for a in first for b in second]
    assert stats.cliffs_delta(first, second) == pytest.approx(sum(signs) / len(signs))
    assert stats.cliffs_delta(second, first) == pytest.approx(-sum(signs) / len(signs))


def test_step_between_shifted_normals() -> None:
    """Two normals, one standard deviation apart: delta is 2 * Phi(1 / sqrt 2) - 1 = 0.52 in theory."""
    drawn = random.Random(5)
    first = [drawn.gauss(10, 1) for _ in range(400)]
    second = [drawn.gauss(11, 1) for _ in range(400)]
    found = stats.step(first, second)
    assert found.difference == pytest.approx(1.0, abs=0.25)
    assert found.ratio == pytest.approx(1.1, abs=0.03)
    assert found.delta == pytest.approx(2 * NormalDist().cdf(1 / math.sqrt(2)) - 1, abs=0.06)
    assert found.clear is True
    assert found.difference_low is not None and found.difference_high is not None
    assert found.difference_low < 1.0 < found.difference_high


def test_no_step_is_not_called_clear() -> None:
    drawn = random.Random(6)
    same = [drawn.gauss(10, 1) for _ in range(60)]
    found = stats.step(same, [drawn.gauss(10, 1) for _ in range(60)])
    assert found.clear is False
    assert abs(found.delta) < 0.3


def test_outliers_are_marked_and_stay() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95, 9.0]
    assert stats.outliers(values) == [False] * 5 + [True]
    assert stats.summarise(values).count == 6
    assert stats.summarise(values).greatest == 9.0
