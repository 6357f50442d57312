"""Intervals of measured rates."""

from typing import NamedTuple

from statsmodels.stats.proportion import proportion_confint


class Interval(NamedTuple):
    """Both ends, 0-1."""

    low: float
    high: float


def wilson(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Two-sided Wilson score interval of a rate; (0, 1) when nothing was counted."""
    if n == 0:
        return Interval(0.0, 1.0)
    low, high = proportion_confint(correct, n, alpha=1.0 - confidence, method="wilson")
    return Interval(float(low), float(high))
