"""The options of a choice question: plausible, different in number and in words, in seeded order."""

from collections.abc import Iterable
from random import Random

from dpe_ray.grading.numbers import only_number, parse_number
from dpe_ray.grading.rules import normalise
from dpe_ray.supply.construct.task import Task, Undrawable

OPTIONS = 4


def offer(task: Task, rng: Random) -> tuple[tuple[str, ...], str]:
    """Options and the letter of the right one. Raises Undrawable when no wrong answer differs from the right one."""
    chosen: list[str] = [task.answer]
    for wrong in task.wrong:
        if len(chosen) < OPTIONS and not any(same(wrong, other) for other in (*chosen, *task.aliases)):
            chosen.append(wrong)
    if len(chosen) < 2:
        raise Undrawable("no wrong answer differs from the right one")
    rng.shuffle(chosen)
    return tuple(chosen), "ABCDEFGHIJ"[chosen.index(task.answer)]


def same(one: str, other: str) -> bool:
    """Whether two answers are equal as words or as numbers; what cannot be told apart counts as equal."""
    if normalise(one) == normalise(other):
        return True
    numbers = [parse_number(only_number(text) or "") for text in (one, other)]
    return numbers[0] is not None and numbers[1] is not None and numbers[0].equals(numbers[1])


def is_letter(text: str) -> bool:
    """Whether an option with this text could be taken for the letter of another."""
    return len(normalise(text)) == 1 and normalise(text).isalpha()


def near(value: int, rng: Random, step: int = 1, least: int = 0, slips: Iterable[int] = ()) -> tuple[str, ...]:
    """Wrong whole numbers: typical slips first, then neighbours of the value in steps; none below `least`."""
    neighbours = [value + sign * times * step for times in (1, 2, 3) for sign in (1, -1)]
    rng.shuffle(neighbours)
    return tuple(str(n) for n in (*slips, *neighbours) if n >= least and n != value)
