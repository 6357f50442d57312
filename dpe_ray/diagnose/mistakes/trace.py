"""What a text-only teacher believes after each step of a rationale, with a planted prior on the right option.

arXiv 2412.15652: the image is withheld, so that the teacher must follow the text; the prior keeps it at the right
option until a step speaks against it. With more than two options the prior is two-way: it sets the right option against
the student's, and leaves next to nothing for the others, so that their number does not change how much a step must say.
Axes: t = 0..n steps read, K options.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpe_ray.diagnose.mistakes.chooser import LETTERS, Chooser, normalised
from dpe_ray.diagnose.mistakes.problem import Problem
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatRequest, Message
from dpe_ray.seeds import child_seed

WIDER_PRIORS = (0.75, 0.9)
"""Tried one after the other while the teacher prefers the wrong option before it has read a step."""


@dataclass(frozen=True)
class Trace:
    """One rationale as the teacher follows it."""

    log_probs: tuple[tuple[float, ...], ...]
    """[n + 1][K] natural log, summing to 1 over the options, both orders averaged."""
    gold: int
    wrong: int
    prior: float
    """Planted on the right option in the end, 0.5-1."""

    @property
    def margins(self) -> tuple[float, ...]:
        """[n + 1] P_t(wrong) - P_t(gold), -1..1."""
        return tuple(math.exp(p[self.wrong]) - math.exp(p[self.gold]) for p in self.log_probs)

    @property
    def log_odds(self) -> tuple[float, ...]:
        """[n + 1] log P_t(wrong) - log P_t(gold)."""
        return tuple(p[self.wrong] - p[self.gold] for p in self.log_probs)


@dataclass(frozen=True)
class Tracer:
    """What reading a trace takes, apart from the rationale."""

    chooser: Chooser
    prompt: PromptFile
    prior: float
    seed: int

    async def trace(self, problem: Problem, steps: Sequence[str]) -> Trace:
        """Read the teacher after 0..n steps, in two orders each, all prefixes at once after the first.

        Costs 2 (n + 1) calls, and 2 for each wider prior.
        """
        for prior in (self.prior, *(p for p in WIDER_PRIORS if p > self.prior)):
            start = await self._point(problem, (), prior)
            if start[problem.wrong] <= start[problem.gold]:
                break
        prefixes = [steps[:t] for t in range(1, len(steps) + 1)]
        points = await asyncio.gather(*[self._point(problem, prefix, prior) for prefix in prefixes])
        return Trace((start, *points), problem.gold, problem.wrong, prior)

    async def _point(self, problem: Problem, steps: Sequence[str], prior: float) -> tuple[float, ...]:
        """[K] log-probabilities after some steps, averaged over two orders: a liking for a slot cancels."""
        asked = (problem, problem.swapped())
        one, two = await asyncio.gather(
            *[self.chooser.choose(self.request(p, steps, prior), len(p.options)) for p in asked]
        )
        return average_orders(one, two, problem)

    def request(self, problem: Problem, steps: Sequence[str], prior: float) -> ChatRequest:
        """Ask about the first steps. They stand last, so that all prefixes of an item begin alike."""
        text = self.prompt.render(
            question=problem.question,
            options=list(zip(LETTERS, problem.options, strict=False)),
            favoured=LETTERS[problem.gold],
            other=LETTERS[problem.wrong],
            percent=round(100 * prior),
            steps=list(steps),
        )
        seed = child_seed(self.seed, "trace", problem.id)
        return ChatRequest((Message("user", text),), "reader", problem.id, self.prompt.label, seed=seed)


def average_orders(one: Sequence[float], two: Sequence[float], problem: Problem) -> tuple[float, ...]:
    """[K] Mean of log-probabilities in the problem's order and with gold and wrong swapped, in the problem's order."""
    back = list(two)
    back[problem.gold], back[problem.wrong] = two[problem.wrong], two[problem.gold]
    return normalised([(p + q) / 2 for p, q in zip(one, back, strict=True)])
