"""Traces whose mistake is known: what the rules are calibrated and tested on. A calibration, not evidence.

n uniform in 8..20 steps, the mistake uniform in 1..n; the log-odds of wrong over gold start where the prior puts them,
rise by 2.5 at the mistake, and carry Gaussian noise. Axes: t = 0..n steps read, K options.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpe_ray.diagnose.mistakes.problem import Problem
from dpe_ray.diagnose.mistakes.trace import Trace, average_orders

REST = 0.1
"""Chance that a two-way prior leaves to all options but two."""


@dataclass(frozen=True)
class Simulated:
    """A teacher and its student, as far as traces show them."""

    num_options: int = 2
    prior: float = 0.6
    """On the right option, 0-1."""
    is_two_way: bool = True
    """The prior sets the right option against the student's; if not, it shares its remainder among all wrong ones."""
    sigma: float = 0.5
    """Of the noise on the log-odds, per prefix."""
    rise: float = 2.5
    slot_bias: float = 0.0
    """What the teacher adds to the logit of slot A, whatever stands there."""
    swaps: bool = True
    """Both orders are asked; if not, only the first."""

    def trial(self, rng: np.random.Generator) -> tuple[int, Trace]:
        """A planted step (1-based) and the trace that it leaves."""
        n = int(rng.integers(8, 21))
        mistake = int(rng.integers(1, n + 1))
        gold, wrong = (int(slot) for slot in rng.permutation(self.num_options)[:2])
        problem = Problem("", "", ("",) * self.num_options, gold, wrong)
        logits = self._start(gold, wrong) + rng.normal(0, self.sigma / np.sqrt(2), (n + 1, self.num_options))
        logits[mistake:, wrong] += self.rise
        return mistake, self._seen(problem, logits)

    def _start(self, gold: int, wrong: int) -> NDArray[np.float64]:
        """[K] logits that the prior plants."""
        others = self.num_options - 2
        if not self.is_two_way:
            start = np.full(self.num_options, (1 - self.prior) / (self.num_options - 1))
            start[gold] = self.prior
            return np.log(start)
        start = np.full(self.num_options, REST / max(others, 1))
        start[[gold, wrong]] = np.array([self.prior, 1 - self.prior]) * (1 - REST * bool(others))
        return np.log(start)

    def _seen(self, problem: Problem, logits: NDArray[np.float64]) -> Trace:
        """What is read of a teacher with these logits [n + 1, K], asked in one order or in both."""
        bias = np.eye(1, self.num_options)[0] * self.slot_bias
        swap = np.arange(self.num_options)
        swap[[problem.gold, problem.wrong]] = problem.wrong, problem.gold
        one = logits + bias
        two = logits[:, swap] + bias if self.swaps else one[:, swap]
        points = [average_orders(p.tolist(), q.tolist(), problem) for p, q in zip(one, two, strict=True)]
        return Trace(tuple(points), problem.gold, problem.wrong, self.prior)
