"""Statistics of samples. Nothing is trimmed: outliers are counted and shown.

Sources: percentile bootstrap of the median (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13);
Cliff's delta (Cliff, Psychological Bulletin 114, 1993); outliers by Tukey's fences (Exploratory Data Analysis, 1977).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 4000
#: Fewer samples than this give no interval: a bootstrap of them would only look like one.
LEAST_FOR_INTERVAL = 5
CONFIDENCE = 0.95
#: The draws are the same in every report of a run.
_SEED = 20261121

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Of one series, in the unit of its samples. ``low`` and ``high`` bound the median (None: too few samples)."""

    count: int
    least: float
    median: float
    greatest: float
    mean: float
    p95: float
    low: float | None
    high: float | None
    outliers: int


@dataclass(frozen=True)
class Step:
    """From one series to another: difference and ratio of the medians, each with its interval, and Cliff's delta.

    ``delta`` lies in [-1, 1]: 1 means that every sample of the second exceeds every sample of the first. ``clear``:
    the interval of the difference leaves out zero (None: too few samples to say).
    """

    difference: float
    difference_low: float | None
    difference_high: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    delta: float
    clear: bool | None


def _medians(values: Floats, random: np.random.Generator) -> Floats:
    drawn = random.integers(0, len(values), size=(RESAMPLES, len(values)))
    return np.asarray(np.median(values[drawn], axis=1))


def _interval(draws: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def outliers(values: Sequence[float]) -> list[bool]:
    """For each value whether it lies beyond Tukey's fences, 1.5 interquartile ranges outside the quartiles."""
    if len(values) < LEAST_FOR_INTERVAL:
        return [False] * len(values)
    first, third = np.quantile(values, [0.25, 0.75])
    reach = 1.5 * (third - first)
    return [bool(value < first - reach or value > third + reach) for value in values]


def summarise(values: Sequence[float]) -> Summary:
    """Summary of at least one value.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError("a summary needs at least one value, all finite")
    data = np.asarray(values, dtype=np.float64)
    low: float | None = None
    high: float | None = None
    if len(data) >= LEAST_FOR_INTERVAL:
        low, high = _interval(_medians(data, np.random.default_rng(_SEED)))
    return Summary(
        count=len(data),
        least=float(data.min()),
        median=float(np.median(data)),
        greatest=float(data.max()),
        mean=float(data.mean()),
        p95=float(np.quantile(data, 0.95)),
        low=low,
        high=high,
        outliers=sum(outliers(values)),
    )


def cliffs_delta(first: Sequence[float], second: Sequence[float]) -> float:
    """Share of pairs in which the second is greater, less the share in which it is smaller."""
    a, b = np.sort(np.asarray(first, dtype=np.float64)), np.asarray(second, dtype=np.float64)
    smaller = np.searchsorted(a, b, side="left")  # for each of b, how many of a lie below it
    greater = len(a) - np.searchsorted(a, b, side="right")
    return float((smaller.sum() - greater.sum()) / (len(a) * len(b)))


def step(first: Sequence[float], second: Sequence[float]) -> Step:
    """The step from ``first`` to ``second``; both are resampled independently for the intervals."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    below, above = float(np.median(a)), float(np.median(b))
    difference_low = difference_high = ratio_low = ratio_high = None
    clear: bool | None = None
    if min(len(a), len(b)) >= LEAST_FOR_INTERVAL:
        random = np.random.default_rng(_SEED)
        draws_a, draws_b = _medians(a, random), _medians(b, random)
        difference_low, difference_high = _interval(draws_b - draws_a)
        clear = not difference_low <= 0 <= difference_high
        if draws_a.min() > 0:
            ratio_low, ratio_high = _interval(draws_b / draws_a)
    return Step(
        difference=above - below,
        difference_low=difference_low,
        difference_high=difference_high,
        ratio=above / below if below > 0 else None,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        delta=cliffs_delta(first, second),
        clear=clear,
    )
