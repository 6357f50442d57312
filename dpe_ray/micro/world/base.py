"""Types of the micro world: scenes, items, skills with right and wrong ways of working, categories.

A scene is a 64x64 picture on a 4x4 grid of 16-pixel cells; columns are a..d, rows are 1..4 from the top, so `b3` is the
second cell of the third row. Its facts are a flat `dict[str, str]`: cell -> what lies there, plus named extras.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal, NamedTuple

from PIL import Image

AnswerKind = Literal["choice", "number", "text"]
ErrorType = Literal["misunderstanding", "visual_recognition", "calculation", "reasoning", "other", "none"]
Facts = dict[str, str]
Args = Mapping[str, str]

COLUMNS = "abcd"
ROWS = "1234"
CELLS = tuple(column + row for row in ROWS for column in COLUMNS)
"""All 16 cells in reading order."""
LETTERS = "ABCD"


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn: the ground truth and the seed of everything that only decorates it."""

    category: str
    level: int
    """Difficulty, 1 (few things) to 3 (many)."""
    facts: Facts
    seed: int
    """Seed of `draw`: jitter, shades, noise, and which handwritten digit stands for a numeral."""

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal scene."""
        return json.dumps({"category": self.category, "level": self.level, "facts": self.facts, "seed": self.seed})

    @staticmethod
    def from_json(text: str) -> "Scene":
        """Inverse of `to_json`."""
        data = json.loads(text)
        return Scene(data["category"], int(data["level"]), dict(data["facts"]), int(data["seed"]))


class Work(NamedTuple):
    """One way of working out an answer: the three steps and the answer as a value (not yet a letter)."""

    target: str
    facts: str
    conclusion: str
    answer: str


@dataclass(frozen=True)
class Item:
    """A question about one scene with a rationale and an answer."""

    skill: str
    question: str
    kind: AnswerKind
    options: tuple[str, ...]
    """Four values for kind `choice`, in the order (A)..(D); empty otherwise."""
    target: str
    """Step 1: what is looked for."""
    facts_text: str
    """Step 2: the facts of the scene that matter."""
    conclusion: str
    """Step 3: the inference or the arithmetic."""
    answer: str
    """A letter for kind `choice`, else a number or a word."""
    phrasing: int
    """Which of the skill's paraphrases the question uses."""

    def completion(self) -> str:
        """Write what a student should write: three numbered steps, then the answer."""
        return f"1. {self.target}\n2. {self.facts_text}\n3. {self.conclusion}\nanswer: {self.answer}"


@dataclass(frozen=True)
class WrongRule:
    """A systematic mistake: how a student with this misconception would work."""

    name: str
    error: ErrorType
    work: Callable[[Facts, Args], Work | None]
    """None where the rule cannot be applied to the question."""


@dataclass(frozen=True)
class Skill:
    """One leaf of the taxonomy: how it is asked, worked out, and got wrong."""

    name: str
    description: str
    kind: AnswerKind
    phrasings: tuple[str, ...]
    """Paraphrases with the same `{slots}`; each slot stands for one lower-case word, number or cell."""
    pick: Callable[[Facts, Random], Args | None]
    """Slot values for which the scene has one clear answer; None if there are none."""
    work: Callable[[Facts, Args], Work]
    """The right work; raises KeyError or ValueError where the question does not fit the scene."""
    rules: tuple[WrongRule, ...]
    options: tuple[str, ...] = ()
    """For kind `choice`: all values an option may have, at least four."""

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """One regular expression per phrasing."""
        return tuple(re.compile(_as_pattern(text)) for text in self.phrasings)

    def match(self, question: str) -> tuple[int, Args] | None:
        """Recognise a question of this skill; gives the phrasing and the slot values."""
        plain = " ".join(question.lower().split())
        for index, pattern in enumerate(self.patterns):
            if found := pattern.fullmatch(plain):
                return index, found.groupdict()
        return None


@dataclass(frozen=True)
class Category:
    """One kind of picture with its skills."""

    name: str
    make: Callable[[int, Random], Facts]
    """Random facts for a level; may be rejected and drawn again if a skill cannot be asked."""
    paint: Callable[[Scene], Image.Image]
    skills: tuple[Skill, ...]
    cell_label: Callable[[Facts, str], str]
    """What a cell shows, in at most two words; `empty` where there is nothing."""


def plain_label(facts: Facts, cell: str) -> str:
    """Cell label where facts hold the label itself."""
    return facts.get(cell, "empty")


def cells_with(facts: Facts, word: str) -> list[str]:
    """Occupied cells whose content names `word`, in reading order."""
    return [cell for cell in CELLS if word in facts.get(cell, "").split()]


def occupied(facts: Facts) -> list[str]:
    """Cells with something in them, in reading order."""
    return [cell for cell in CELLS if cell in facts]


def shift(cell: str, columns: int = 0, rows: int = 0) -> str:
    """Return the cell that many columns to the right and rows further down; "" outside the grid."""
    column, row = COLUMNS.index(cell[0]) + columns, ROWS.index(cell[1]) + rows
    return COLUMNS[column] + ROWS[row] if 0 <= column < 4 and 0 <= row < 4 else ""


def choose(rng: Random, candidates: list[dict[str, str]]) -> dict[str, str] | None:
    """Choose a random candidate, or None of an empty list."""
    return rng.choice(candidates) if candidates else None


def _as_pattern(phrasing: str) -> str:
    """Turn `What is at {cell}?` into a pattern with one named group per slot."""
    parts = re.split(r"\{(\w+)\}", phrasing.lower())
    return "".join(f"(?P<{part}>[a-z0-9]+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
