"""Rationales in fine steps: one fact or one conclusion each, so that a single step can be wrong.

Step 1 says what is looked for, then come the facts, then the working. `tell` writes a rationale, if asked with one
wrong step and everything behind it consistent with that step; `implied_answer` reads the beginning of one and says
where it leads. Short rationales, with all facts in one step, are read as well.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from random import Random

from dpe_ray.micro.world import artistic, everyday_object, natural_scene
from dpe_ray.micro.world.api import SKILLS
from dpe_ray.micro.world.base import CELLS, Args, Facts, Item, Scene, occupied
from dpe_ray.micro.world.geometric import SHAPES
from dpe_ray.micro.world.paint import INK
from dpe_ray.micro.world.ways import DIGITS, WAYS, Line, Way, Working

FINE_CUE = "Think in fine numbered steps, one fact or one conclusion each, then finish with one line: answer: <answer>"
"""What a prompt that wants fine steps ends with, in the place of the plain instruction."""
NOTHING = "none"
"""States that there is nothing to list."""

_SKY = [colour for colour, _ in natural_scene.SKIES.values()]
_KIN = (INK, SHAPES, artistic.PATTERNS, everyday_object.OBJECTS, natural_scene.THINGS, _SKY, DIGITS, CELLS)
"""Groups of words of which one may be seen as another."""
_UNFIT = (KeyError, IndexError, ValueError)
"""What a way raises where the stated facts do not suffice."""


@dataclass(frozen=True)
class Told:
    """A rationale in fine steps."""

    steps: tuple[str, ...]
    num_facts: int
    """Steps 2 to 1 + num_facts state facts; those behind are working."""
    value: str
    """The answer as a value, not as a letter."""

    def completion(self, answer: str) -> str:
        """Write what a student should write: numbered steps, then the answer."""
        lines = [f"{number}. {step}" for number, step in enumerate(self.steps, start=1)]
        return "\n".join([*lines, f"answer: {answer}"])


def fine_completion(item: Item, scene: Scene) -> str:
    """Write the item's right working in fine steps: three for a mere look, up to fifteen or so for a count."""
    return tell(item, scene).completion(item.answer)


def tell(item: Item, scene: Scene, wrong: int = 0, rng: Random | None = None) -> Told:
    """Tell the item's working; with `wrong` (1-based) that step says something else and the rest follows from it.

    Raises ValueError where that step cannot be wrong, nobody could go on from it, or the answer stays right.
    """
    way = WAYS[item.skill]
    return _told(way, _args(item), item.target, _facts(item, scene, way), wrong, rng or Random(0))


def retell(question: str, steps: Sequence[str], wrong: int = 0, rng: Random | None = None) -> Told:
    """Tell again what somebody wrote in fine steps, from the facts as they are stated there; `wrong` as for `tell`.

    Raises ValueError as `tell`, and where the steps do not work the question out in fine steps, without a slip.
    """
    for skill, args in _asked(question):
        way = WAYS[skill]
        facts = _listed(way, steps[1:])
        if steps and _follows(way, args, facts, steps):
            return _told(way, args, steps[0], facts, wrong, rng or Random(0))
    raise ValueError(f"no faultless working in fine steps of {question!r}: {list(steps)}")


def implied_answer(question: str, steps: Sequence[str]) -> str | None:
    """Where the first steps of a rationale lead if what they say is true and the rest is done right, as a value.

    Knows the language of the world, not its pictures. None as long as the steps decide nothing.
    """
    told = [_plain(step) for step in steps]
    answers = (_followed(WAYS[skill], args, told) for skill, args in _asked(question))
    return next((answer for answer in answers if answer is not None), None)


def _told(way: Way, args: Args, target: str, facts: Facts, wrong: int, rng: Random) -> Told:
    """Tell a working from its facts, right or with one wrong step; errors as `tell`."""
    steps = [target]

    def said(value: str, others: Sequence[str]) -> str:
        if len(steps) + 1 != wrong:
            return value
        if not others:
            raise ValueError(f"step {wrong} cannot be wrong: {steps}")
        return rng.choice(others)

    def say(line: Line) -> str:
        value = said(line.value, line.others)
        steps.append(line.words.format(value))
        return value

    stated: Facts = {}
    for key, value in facts.items():
        stated[key] = said(value, _kin(value))
        steps.append(f"{key} {stated[key]}")
    try:
        answer = _worked_out(way.work(args, stated), say)
    except _UNFIT as error:
        raise ValueError(f"nothing follows from {steps}") from error
    if wrong and answer == _told(way, args, target, facts, 0, rng).value:
        raise ValueError(f"the answer stays {answer} when step {wrong} is wrong: {steps}")
    return Told(tuple(steps), len(stated), answer)


def _follows(way: Way, args: Args, facts: Facts, steps: Sequence[str]) -> bool:
    """Whether the steps are what can be told of these facts, word for word."""
    try:
        return _told(way, args, steps[0], facts, 0, Random(0)).steps == tuple(steps)
    except ValueError:
        return False


def _listed(way: Way, steps: Sequence[str]) -> Facts:
    """What the leading steps state that state facts and nothing else."""
    facts = (way.facts(step) for step in steps)
    return {key: value for found in takewhile(bool, facts) for key, value in found.items()}


@lru_cache(maxsize=4096)
def _asked(question: str) -> tuple[tuple[str, Args], ...]:
    """Skills that ask so, with what they ask about."""
    return tuple((name, found[1]) for name, skill in SKILLS.items() if (found := skill.match(question)))


def _followed(way: Way, args: Args, steps: Sequence[str]) -> str | None:
    facts = [way.facts(step) for step in steps]
    stated = {key: value for found in facts for key, value in found.items()}
    listed = NOTHING in steps or "" in stated.values() or any(len(found) > 1 for found in facts)
    working = [step for step, found in zip(steps, facts, strict=True) if not found]
    begun = False

    def read(line: Line) -> str:
        nonlocal begun
        for place, step in enumerate(working):
            if found := _pattern(line.words).fullmatch(step):
                del working[: place + 1]
                begun = True
                return found[1]
        return line.value

    try:
        answer = _worked_out(way.work(args, stated), read)
    except _UNFIT:
        return None
    return answer if begun or listed or not way.is_open else None


def _worked_out(working: Working, say: Callable[[Line], str]) -> str:
    """Run a way to its end; `say` gives the value that stands in each line."""
    try:
        line = next(working)
        while True:
            line = working.send(say(line))
    except StopIteration as end:
        return str(end.value)


def _facts(item: Item, scene: Scene, way: Way) -> Facts:
    """The facts in the order in which they are told: for a count every thing in the picture, else what matters."""
    if not way.is_bare:
        return way.facts(item.facts_text)
    return {cell: scene.facts[cell] for cell in occupied(scene.facts)}


def _args(item: Item) -> Args:
    found = SKILLS[item.skill].match(item.question)
    if found is None:
        raise ValueError(f"not a question of {item.skill}: {item.question!r}")
    return found[1]


def _kin(label: str) -> list[str]:
    """What a label may be mistaken for: the same with another last word of its kind."""
    *before, last = label.split()
    group = next((group for group in _KIN if last in group), ())
    return [" ".join([*before, other]) for other in group if other != last]


def _pattern(words: str) -> re.Pattern[str]:
    """The words with anything in their gap; an equation with any numbers."""
    if re.match(r"\w+ [-+x] \w+ = ", words):
        return re.compile(r"\w+ [-+x] \w+ = (\w+)")
    return re.compile(re.escape(words).replace(r"\{\}", "(.+)"))


def _plain(step: str) -> str:
    return " ".join(step.lower().split()).strip(" .")
