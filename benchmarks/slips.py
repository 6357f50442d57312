"""One wrong step in a rationale that somebody wrote: what stands before it stays, what stands behind it follows."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import NamedTuple

from fine_student import FEWEST_STEPS, SKILLS, Task, followed

from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.grading.rules import grade
from dpe_ray.micro.world.fine_steps import Told, retell
from dpe_ray.types import Answer, AnswerKind, Graded, Sample, Verdict, VerdictKind

TRIES = 4
"""Slips that are tried at one step: some change nothing, or leave nothing to go on from."""


class Case(NamedTuple):
    """A wrong answer whose mistake is known here and nowhere else."""

    skill: str
    graded: Graded
    step: int
    """1-based."""
    num_steps: int
    num_possible: int
    """Steps among which the wrong one was drawn."""
    unchanged: Graded | None = None
    """What the student wrote, with the same wrong answer at its end."""


def usable(task: Task, text: str) -> Told | None:
    """What the student wrote, if it is five steps or more that work out to the right answer."""
    told = followed(task, text)
    return told if told and told.value == task.right.value and len(told.steps) >= FEWEST_STEPS else None


def corrupted(written: Sequence[tuple[Task, Told]], seed: int, *, are_facts: bool) -> list[Case]:
    """One case of each rationale that a slip can lead to a wrong answer; every second one gets four options."""
    rng, cases = Random(f"slips {seed} {are_facts}"), list[Case]()
    values = {skill: {task.right.value for task, _ in written if task.skill == skill} for skill in SKILLS}
    for task, told in written:
        slips = possible_slips(task, told, rng, are_facts)
        if not slips:
            continue
        step, slipped = rng.choice(sorted(slips.items()))
        others = sorted(values[task.skill] - {told.value, slipped.value}) if len(cases) % 2 else []
        sample = offered(replace(task.prompt.sample, rationale=""), told.value, slipped.value, others, rng)
        graded = Graded(sample, slipped.completion(slipped.value), Verdict(VerdictKind.WRONG, "slip@1"))
        unchanged = replace(graded, text=told.completion(slipped.value))
        cases.append(Case(task.skill, graded, step, len(told.steps), len(slips), unchanged))
    return cases


def possible_slips(task: Task, told: Told, rng: Random, are_facts: bool) -> dict[int, Told]:
    """For each step of working, or each fact, that can be wrong: the rationale with that slip."""
    first, last = (2, 1 + told.num_facts) if are_facts else (2 + told.num_facts, len(told.steps))
    slips = {}
    for step in range(first, last + 1):
        for _ in range(TRIES):
            with suppress(ValueError):
                slips[step] = retell(task.prompt.sample.question, told.steps, step, rng)
    return slips


def offered(sample: Sample, right: str, wrong: str, others: Sequence[str], rng: Random) -> Sample:
    """The item with four options if there are others enough, else open-ended."""
    if len(others) < 2:
        return sample
    options = [right, wrong, *rng.sample(others, 2)]
    rng.shuffle(options)
    letter = "ABCD"[options.index(right)]
    return replace(sample, options=tuple(options), answer=Answer(AnswerKind.CHOICE, letter))


def own_mistakes(asked: Sequence[Task], texts: Sequence[str]) -> list[Case]:
    """Wrong answers as the student gave them; the mistake is the first step that the right rationale does not hold."""
    cases = []
    for task, text in zip(asked, texts, strict=True):
        steps, verdict = [step.text for step in split_steps(text)], grade(task.prompt.sample, text)
        wrong = [place for place, step in enumerate(steps, start=1) if step not in task.right.steps]
        if verdict.kind is VerdictKind.WRONG and wrong and len(steps) >= FEWEST_STEPS:
            graded = Graded(task.prompt.sample, text, verdict)
            cases.append(Case(task.skill, graded, wrong[0], len(steps), len(steps)))
    return cases
