"""Paired differences with standard errors clustered by image: questions about one picture are no independent trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import t as student_t

POWER = 0.8
"""Probability with which a detectable drop is seen."""


class Pair(NamedTuple):
    """One item under two policies."""

    cluster: str
    """The image or images it is about."""
    change: int
    """Correct after minus correct before: -1, 0 or 1."""


@dataclass(frozen=True)
class Estimate:
    """A mean change as a t-distributed estimate."""

    mean: float
    """-1..1"""
    se: float
    """Standard error, never 0."""
    df: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided, cut to -1..1."""
        half = float(student_t.ppf(0.5 + confidence / 2, self.df)) * self.se
        return max(-1.0, self.mean - half), min(1.0, self.mean + half)

    def p_below(self, value: float) -> float:
        """One-sided p of `the true change is at least value`: small means it lies below."""
        return float(student_t.cdf((self.mean - value) / self.se, self.df))

    def p_above(self, value: float) -> float:
        """One-sided p of `the true change is at most value`: small means it lies above."""
        return float(student_t.sf((self.mean - value) / self.se, self.df))

    def detectable_drop(self, alpha: float) -> float:
        """Smallest true fall that a one-sided test at `alpha` would have shown with 80 % probability, at most 1."""
        return min(1.0, float(student_t.ppf(1 - alpha, self.df) + student_t.ppf(POWER, self.df)) * self.se)


def estimate(pairs: Sequence[Pair]) -> Estimate:
    """Mean change of one category, clustered by image.

    With no or hardly any discordant pair the plain standard error would be 0 and claim certainty, so `least_variance`
    is added: without a discordant pair the interval is about +-2.8 / items, the two-sided cousin of the rule of three.
    """
    images = _cluster_sums(pairs)
    mean = _mean(pairs)
    squares = sum((change - count * mean) ** 2 for change, count in images.values())
    correction = len(images) / max(1, len(images) - 1)
    variance = squares * correction / len(pairs) ** 2 + least_variance(len(pairs))
    return Estimate(mean, math.sqrt(variance), max(1, len(images) - 1))


def macro_estimate(categories: Mapping[str, Sequence[Pair]]) -> Estimate:
    """Unweighted mean of the categories' changes, clustered by image across categories.

    The variance sums each image's squared influence on the mean. It is never below that of categories without any
    discordant pair; adding that, as for one category, would cost a small gate a quarter of its precision for nothing.
    """
    share = 1.0 / len(categories)
    influence: dict[str, float] = {}
    floor = 0.0
    for pairs in categories.values():
        images, mean = _cluster_sums(pairs), _mean(pairs)
        floor += share**2 * least_variance(len(pairs))
        for name, (change, count) in images.items():
            part = _influence(change - count * mean, len(pairs), len(images))
            influence[name] = influence.get(name, 0.0) + share * part
    variance = max(sum(value**2 for value in influence.values()), floor)
    return Estimate(share * sum(map(_mean, categories.values())), math.sqrt(variance), max(1, len(influence) - 1))


def least_variance(items: int) -> float:
    """Variance of a mean change without discordant pairs: one item more that rose, one that fell.

    The Laplace adjustment for paired proportions of Bonett and Price (2012) at zero discordance: 2 / (n + 2)^2.
    """
    return 2.0 / (items + 2) ** 2


def _influence(deviation: float, items: int, images: int) -> float:
    # of a single image the spread is unknown: take the widest there is
    return deviation / items * math.sqrt(images / (images - 1)) if images > 1 else 1.0


def _mean(pairs: Sequence[Pair]) -> float:
    return sum(pair.change for pair in pairs) / len(pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjust p values, in their order: compared with alpha, the chance of one false alarm in all is at most alpha.

    Equals statsmodels' multipletests, which collects garbage on every call and takes 0.1 s for it.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _cluster_sums(pairs: Sequence[Pair]) -> dict[str, tuple[float, float]]:
    """(sum of changes, number of items) per image."""
    sums: dict[str, tuple[float, float]] = {}
    for pair in pairs:
        change, count = sums.get(pair.cluster, (0.0, 0.0))
        sums[pair.cluster] = (change + pair.change, count + 1)
    return sums
