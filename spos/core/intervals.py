"""Confidence intervals of measured values: shares of images, means of few runs, differences of two such means."""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence, Tuple

import numpy as np
from scipy.special import stdtrit

from spos.core.errors import InputError

CONFIDENCE = 0.95  # two-sided
CONFIDENCE_Z = 1.959963984540054  # of the normal distribution


class Interval(NamedTuple):
    """A value with its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


def wilson_interval(hits: float, num_images: int) -> Tuple[float, float]:
    """95% Wilson score interval of the share of hits (Wilson, 1927)."""
    n, p, z2 = num_images, hits / num_images, CONFIDENCE_Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = CONFIDENCE_Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def student_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent values. Raises InputError if there are fewer than two."""
    sample = _several(values)
    return _around(float(sample.mean()), float(sample.var(ddof=1)) / len(sample), len(sample) - 1)


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Interval of mean(first) - mean(second) of independent values whose variances may differ (Welch, 1947).

    Raises: InputError if either has fewer than two values.
    """
    one, other = _several(first), _several(second)
    parts = [float(values.var(ddof=1)) / len(values) for values in (one, other)]
    variance = sum(parts)
    squares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other)))
    return _around(float(one.mean() - other.mean()), variance, variance**2 / squares if squares else 1.0)


def _several(values: Sequence[float]) -> np.ndarray:
    if len(values) < 2:
        raise InputError(f"an interval of a mean needs at least 2 values, not {len(values)}")
    return np.asarray(values, dtype=float)


def _around(mean: float, variance: float, degrees_of_freedom: float) -> Interval:
    half = float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2)) * variance**0.5
    return Interval(mean, mean - half, mean + half)
