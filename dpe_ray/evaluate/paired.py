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
    """Observed, -1..1."""
    centre: float
    """Shrunk towards 0: what intervals and tests stand on."""
    se: float
    df: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided, cut to -1..1."""
        half = float(student_t.ppf(0.5 + confidence / 2, self.df)) * self.se
        return max(-1.0, self.centre - half), min(1.0, self.centre + half)

    def p_below(self, value: float) -> float:
        """One-sided p of `the true change is at least value`: small means it lies below."""
        return float(student_t.cdf((self.centre - value) / self.se, self.df))

    def p_above(self, value: float) -> float:
        """One-sided p of `the true change is at most value`: small means it lies above."""
        return float(student_t.sf((self.centre - value) / self.se, self.df))

    def detectable_drop(self, alpha: float) -> float:
        """Smallest true fall that a one-sided test at `alpha` would have shown with 80 % probability, at most 1."""
        return min(1.0, float(student_t.ppf(1 - alpha, self.df) + student_t.ppf(POWER, self.df)) * self.se)


def estimate(pairs: Sequence[Pair]) -> Estimate:
    """Mean change of one category; Laplace-adjusted (Bonett and Price 2012), clustered.

    One pseudo image that rose and one that fell, each of average size, are added before centre and standard error are
    taken. With no discordant pair a plain standard error would be 0 and claim certainty; this one gives an interval of
    about +-2.8 / images, the two-sided cousin of the rule of three, and fades with every image that is added.
    """
    sums = _cluster_sums(pairs)
    size = len(pairs) / len(sums)
    clusters = [*sums.values(), (size, size), (-size, size)]
    n = len(pairs) + 2 * size
    centre = sum(change for change, _ in clusters) / n
    squares = sum((change - count * centre) ** 2 for change, count in clusters)
    df = len(clusters) - 1
    return Estimate(sum(p.change for p in pairs) / len(pairs), centre, math.sqrt(squares * (df + 1) / df) / n, df)


def macro_estimate(categories: Mapping[str, Sequence[Pair]]) -> Estimate:
    """Unweighted mean of the categories' changes, clustered by image across categories.

    The standard error sums each image's influence on the mean, plus one pseudo image that rose and one that fell
    of average influence, so that it never is 0.
    """
    influence: dict[str, float] = {}
    for pairs in categories.values():
        share = 1.0 / (len(categories) * len(pairs))
        images = _cluster_sums(pairs)
        mean = sum(p.change for p in pairs) / len(pairs)
        # of a single image the spread is unknown: take the widest there is
        correction = math.sqrt(len(images) / (len(images) - 1)) if len(images) > 1 else 0.0
        for name, (change, count) in images.items():
            part = share * (change - count * mean) * correction if correction else 1.0 / len(categories)
            influence[name] = influence.get(name, 0.0) + part
    squares = sum(value**2 for value in influence.values()) + 2 / (len(influence) + 2) ** 2
    mean = sum(sum(p.change for p in pairs) / len(pairs) for pairs in categories.values()) / len(categories)
    return Estimate(mean, mean, math.sqrt(squares), len(influence) + 1)


def _cluster_sums(pairs: Sequence[Pair]) -> dict[str, tuple[float, float]]:
    """(sum of changes, number of items) per image."""
    sums: dict[str, tuple[float, float]] = {}
    for pair in pairs:
        change, count = sums.get(pair.cluster, (0.0, 0.0))
        sums[pair.cluster] = (change + pair.change, count + 1)
    return sums
