"""What counts say about the accuracy of cells: a beta-binomial model in which cells borrow from their category.

A cell's accuracy is Beta distributed around its category's mean, a category's mean around the whole's. How strongly is
learned from the counts: both strengths lie on a grid and are weighted by their marginal likelihood instead of set to
the likeliest value, since intervals around one fitted strength hold the truth too seldom (83 % of the time instead of
95 % with 24 cells and 200 items).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import betaincinv, betaln

from dpe_ray.grading.intervals import Interval

Array = NDArray[Any]

MEANS = (np.arange(20) + 0.5) / 20
"""[M] grid of means."""
SPREADS = np.linspace(0.06, 0.76, 8)
"""[K] grid of standard deviations relative to sqrt(mean (1 - mean)), evenly spaced and equally likely beforehand:
flat in the spread, as Gelman advises for few groups (Bayesian Analysis 1(3), 2006). Strength = 1 / spread^2 - 1."""


@dataclass(frozen=True)
class Tally:
    """What was counted in one cell."""

    category: str
    n: int
    correct: int


@dataclass(frozen=True)
class Estimate:
    """The posterior of one cell's accuracy."""

    mean: float
    """Between 0 and 1, never one of them."""
    sd: float

    @property
    def strength(self) -> float:
        """Answers it is worth: counted ones and what neighbours lend."""
        return self.mean * (1.0 - self.mean) / self.sd**2 - 1.0

    def interval(self, confidence: float = 0.95) -> Interval:
        """Both ends between which the accuracy lies, equal tails, of the Beta with this mean and deviation."""
        a, b = self.mean * self.strength, (1.0 - self.mean) * self.strength
        low, high = betaincinv(a, b, [(1.0 - confidence) / 2, (1.0 + confidence) / 2])
        return Interval(float(low), float(high))


def estimate(tallies: Sequence[Tally]) -> tuple[Estimate, ...]:
    """Estimate every cell, in the order given; milliseconds for a hundred cells.

    A cell without a count takes what its category suggests, a category without any what the others do.
    """
    if not tallies:
        return ()
    names = sorted({tally.category for tally in tallies})
    category = np.array([names.index(tally.category) for tally in tallies])  # [cells]
    n = np.array([tally.n for tally in tallies], float)[:, None, None]
    correct = np.array([tally.correct for tally in tallies], float)[:, None, None]
    a, b, _ = _grid()
    # A cell's posterior is a mixture of one Beta per point of the grid, kept as mean and deviation.
    likelihood = betaln(a + correct, b + n - correct) - betaln(a, b)  # [cells, M, K]
    weight = _category_posterior(likelihood, category)[category]
    means, strength = (a + correct) / (a + b + n), a + b + n
    mean = (weight * means).sum(axis=(1, 2))
    square = (weight * (means * (1.0 - means) / (strength + 1.0) + means**2)).sum(axis=(1, 2))
    return tuple(Estimate(float(m), float(np.sqrt(s - m * m))) for m, s in zip(mean, square, strict=True))


def _category_posterior(cells: Array, category: Array) -> Array:
    """[categories, M, K] of each category's mean and the cells' common strength, from log-likelihoods [cells, M, K]."""
    top = _grid()[2]
    logs = np.zeros((category.max() + 1, *cells.shape[1:]))
    np.add.at(logs, category, cells)
    likelihood = np.exp(logs - logs.max(axis=(1, 2), keepdims=True))
    # The whole's mean and strength (one axis) and the cells' strength, weighed by all categories together.
    evidence = np.maximum(top @ likelihood, np.finfo(float).tiny)  # [categories, M * K, K]
    whole = np.log(evidence).sum(axis=0)
    posterior = likelihood * (top.T @ (np.exp(whole - whole.max()) / evidence))
    return posterior / posterior.sum(axis=(1, 2), keepdims=True)


@cache
def _grid() -> tuple[Array, Array, Array]:
    """[M, K] Beta parameters a and b, and [M * K, M] how each of them as a prior spreads over the grid of means."""
    strength = 1.0 / SPREADS**2 - 1.0
    a, b = np.outer(MEANS, strength), np.outer(1.0 - MEANS, strength)
    top: Array = stats.beta.pdf(MEANS, a.reshape(-1, 1), b.reshape(-1, 1))
    return a, b, top / top.sum(axis=1, keepdims=True)
