"""The methods, each from a wrong rationale to a location: three read one trace, three are the paper's baselines."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dpe_ray.diagnose.mistakes import rules
from dpe_ray.diagnose.mistakes.chooser import Chooser, TextOnly
from dpe_ray.diagnose.mistakes.problem import Problem
from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.diagnose.mistakes.trace import Trace, Tracer
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatRequest, Message
from dpe_ray.seeds import child_seed
from dpe_ray.types import MistakeLocation

RATIONALE_TOKENS = 800


@dataclass(frozen=True)
class LocateSettings:
    """How mistakes are located. Defaults of delta and persistence from simulation, of the prior from the paper."""

    method: str = "answer_switch"
    """A key of METHODS."""
    delta: float = rules.DELTA
    """Lead of the wrong option that answer_switch asks for, 0-1."""
    persistence: int = rules.PERSISTENCE
    """Prefixes in a row on which answer_switch asks for it (lambda)."""
    prior: float = 0.6
    """Planted on the right option, 0.5-1 (arXiv 2412.15652)."""
    samples: int = 16
    """Answers drawn per question from a teacher without log-probabilities."""
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """One wrong rationale before a teacher."""

    problem: Problem
    steps: tuple[str, ...]
    """[n], at least one."""
    model: TextOnly
    prompt: PromptFile
    settings: LocateSettings

    def location(self, step: int | None, status: str = "found") -> MistakeLocation:
        """Say what was found; without a step the method abstains."""
        return MistakeLocation(self.settings.method, step, status if step else "abstained", calls=self.model.calls)


Method = Callable[[Case], Awaitable[MistakeLocation]]


async def _traced(case: Case) -> MistakeLocation:
    settings, chooser = case.settings, Chooser(case.model, case.settings.samples)
    trace = await Tracer(chooser, case.prompt, settings.prior, settings.seed).trace(case.problem, case.steps)
    return from_trace(trace, settings, case.model.calls)


def from_trace(trace: Trace, settings: LocateSettings, calls: int) -> MistakeLocation:
    """Apply one of the methods that read a trace.

    Where the rule of answer_switch never fires, the largest jump stands in for it. A teacher that prefers the wrong
    option before it has read a step, whatever prior was planted, cannot switch to it: answer_switch abstains.
    """
    status = "found"
    if settings.method == "change_point":
        step = rules.change_point(trace.log_odds)
    elif settings.method == "largest_jump":
        step = rules.largest_jump(trace.log_odds)
    elif trace.margins[0] > 0:
        step = None
    elif not (step := rules.answer_switch(trace.margins, settings.delta, settings.persistence)):
        step, status = rules.largest_jump(trace.log_odds), "fallback"
    return MistakeLocation(
        settings.method, step, status if step else "abstained", trace.log_odds, calls, prior=trace.prior
    )


async def _random(case: Case) -> MistakeLocation:
    seed = child_seed(case.settings.seed, "random step", case.problem.id)
    return case.location(rules.random_step(len(case.steps), seed))


async def _prompt_per_step(case: Case) -> MistakeLocation:
    """Ask of each step whether it is the wrong one, given those before it and the reference answer; n calls."""
    chooser = Chooser(case.model, case.settings.samples)

    async def is_wrong(t: int) -> float:
        _, wrong = await chooser.choose(_request(case, steps=case.steps[:t]), 2)
        return math.exp(wrong)

    first = await is_wrong(1)
    others = await asyncio.gather(*[is_wrong(t) for t in range(2, len(case.steps) + 1)])
    return case.location(rules.first_wrong([first, *others]))


async def _pseudo_rationale(case: Case) -> MistakeLocation:
    """Have the teacher reason towards the reference answer, and look where the student leaves its way; one call."""
    reply = await case.model.chat(_request(case, max_tokens=RATIONALE_TOKENS))
    own = [step.text for step in split_steps(reply.texts[0])]
    return case.location(rules.first_divergence(case.steps, own))


def _request(case: Case, steps: Sequence[str] = (), max_tokens: int = 1) -> ChatRequest:
    problem = case.problem
    text = case.prompt.render(question=problem.question, reference=problem.options[problem.gold], steps=list(steps))
    seed = child_seed(case.settings.seed, case.settings.method, problem.id)
    return ChatRequest(
        (Message("user", text),), "reader", problem.id, case.prompt.label, max_tokens=max_tokens, seed=seed
    )


METHODS: dict[str, Method] = {
    "answer_switch": _traced,
    "largest_jump": _traced,
    "change_point": _traced,
    "random": _random,
    "prompt_per_step": _prompt_per_step,
    "pseudo_rationale": _pseudo_rationale,
}
"""All methods by name."""
PROMPTS = {"prompt_per_step": "step_judge", "pseudo_rationale": "own_rationale"}
"""Prompt files by method; all others have `answer_switch`."""
