"""What counts say about the accuracy of cells: a beta-binomial model in which cells borrow strength from their category.

A cell's accuracy is Beta distributed around its category's mean, a category's mean around the whole's. How strongly is
learned from the counts: both strengths lie on a grid and are weighted by their marginal likelihood instead of set to
the likeliest value, since intervals around one fitted strength hold the truth too seldom (83 % of the time instead of
95 % with 24 cells and 200 items).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import betaincinv, betaln

from dpe_ray.grading.intervals import Interval

Array = NDArray[np.float64]

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
    member = np.array([names.index(tally.category) for tally in tallies])  # [cells]
    n = np.array([tally.n for tally in tallies], float)[:, None, None]
    correct = np.array([tally.correct for tally in tallies], float)[:, None, None]
    a, b, top = _grid()
    # 1  How likely the counts of each category are, by its mean and by the strength that all cells share.
    cells = betaln(a + correct, b + n - correct) - betaln(a, b)  # [cells, M, K]
    logs = np.zeros((len(names), *a.shape))
    np.add.at(logs, member, cells)
    likelihood = np.exp(logs - logs.max(axis=(1, 2), keepdims=True))  # [categories, M, K]
    # 2  Weigh the whole's mean and strength and the cells' strength by all categories together.
    tiny = np.finfo(float).tiny
    evidence = np.maximum(top @ likelihood, tiny)  # [categories, M * K, K]
    log_weight = np.log(evidence).sum(axis=0)
    weight = np.exp(log_weight - log_weight.max())
    # 3  Back to each category's mean, then to its cells: mixtures of Beta posteriors, kept as mean and deviation.
    of_category = likelihood * (top.T @ (weight / evidence))
    of_category /= of_category.sum(axis=(1, 2), keepdims=True)
    strength = a + b + n
    means = (a + correct) / strength
    of_cell = of_category[member]
    mean = (of_cell * means).sum(axis=(1, 2))
    square = (of_cell * (means * (1.0 - means) / (strength + 1.0) + means**2)).sum(axis=(1, 2))
    return tuple(Estimate(float(m), float(np.sqrt(s - m * m))) for m, s in zip(mean, square, strict=True))


@cache
def _grid() -> tuple[Array, Array, Array]:
    """[M, K] Beta parameters a and b, and [M * K, M] how each of them as a prior spreads over the grid of means."""
    strength = 1.0 / SPREADS**2 - 1.0
    a, b = np.outer(MEANS, strength), np.outer(1.0 - MEANS, strength)
    top = stats.beta.pdf(MEANS, a.reshape(-1, 1), b.reshape(-1, 1))
    return a, b, top / top.sum(axis=1, keepdims=True)
