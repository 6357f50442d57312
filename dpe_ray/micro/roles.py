"""What the oracle answers in each role, from the ground truth and from what it is made to believe.

The answer that the question writer gives is the *shared* belief about an item; every other role repeats that belief
with probability `error_correlation` and else makes up its own mind, so that with correlation 1 a wrong label convinces
everybody. All draws are by hashes.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from random import Random
from typing import Any

from dpe_ray.errors import ConfigError
from dpe_ray.grading.rules import normalise
from dpe_ray.micro.analyst import ANALYSTS
from dpe_ray.micro.asked import SOLVER, Asked
from dpe_ray.micro.reader import write_rationale
from dpe_ray.micro.world import (
    CATEGORY_OF,
    SKILLS,
    Item,
    Scene,
    ask,
    error_type,
    final_answer,
    make_scene,
    skills_for,
    solve,
)
from dpe_ray.taxonomy import ERROR_TYPES

UNREADABLE = "I cannot tell."


@dataclass(frozen=True)
class OracleOptions:
    """The `options` of a model with engine oracle; rates 0-1."""

    error_rate: float = 0.0
    """How often a belief is wrong, per item and role."""
    error_correlation: float = 0.0
    """How often a role repeats what the question writer believed instead of looking itself."""
    outage_rate: float = 0.0
    """Share of images for which every attempt fails."""
    latency_s: float = 0.0

    @staticmethod
    def read(options: dict[str, Any]) -> "OracleOptions":
        """Check the options of a configuration. Raises ConfigError."""
        known = [option.name for option in fields(OracleOptions)]
        for name, value in options.items():
            if name not in known:
                raise ConfigError(f"options.{name}: the oracle has no such option; it has {', '.join(known)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"options.{name}: must be a number of at least 0 (got {value!r})")
            if value > 1 and name != "latency_s":
                raise ConfigError(f"options.{name}: is a share, give 0 to 1 (got {value!r})")
        return OracleOptions(**{name: float(value) for name, value in options.items()})


@dataclass(frozen=True)
class Mind:
    """What one role believes about one image; `None` for a scene means that it cannot read the image."""

    image: str
    """SHA-256 of the bytes."""
    scene: Scene | None
    options: OracleOptions
    index: int = 0
    """Which of the n answers; each solver of a request has a mind of its own."""

    def errs(self, question: str, role: str) -> bool:
        """Whether this role is wrong on its own account."""
        return chance(self.image, question, role, self.index) < self.options.error_rate

    def follows(self, question: str, role: str) -> bool:
        """Whether this role repeats the shared belief."""
        return chance(self.image, question, role, self.index, "follows") < self.options.error_correlation

    def shared(self, item: Item) -> str:
        """Give the answer that the question writer believes in."""
        key = (self.image, item.question, "shared")
        return self.wrong(item, *key) if chance(*key) < self.options.error_rate else item.answer

    def believes(self, item: Item, role: str) -> str:
        """Give the answer that a role would give."""
        if self.follows(item.question, role):
            return self.shared(item)
        key = (self.image, item.question, role, self.index)
        return self.wrong(item, *key, "wrong") if self.errs(item.question, role) else item.answer

    def wrong(self, item: Item, *key: object) -> str:
        """One of the skill's other answers."""
        others = [answer for answer in _answers(item) if answer != item.answer]
        return others[pick(*key, size=len(others))]


def _plan(mind: Mind, asked: Asked) -> str:
    scene = mind.scene
    if scene is None:
        return _json(image_category="", cell="", question_type="text", plan=UNREADABLE)
    cells = sorted(line.partition(":")[0] for line in asked.listed("Wanted cells"))
    fitting = [cell for cell in cells if cell.partition("/")[0] == scene.category]
    if not fitting:
        return _json(image_category=scene.category, cell="", question_type="text", plan="No wanted cell fits.")
    cell = fitting[pick(mind.image, "cell", size=len(fitting))]
    skill = SKILLS[_skill(scene, cell, mind.image)]
    plan = f"Have the student {skill.description}, in a picture of {scene.category} with difficulty {scene.level}."
    return _json(image_category=scene.category, cell=cell, question_type=skill.kind, plan=plan)


def _leave_open(mind: Mind, asked: Asked) -> str:
    """The oracle knows pictures and no programs: an empty list leaves their parameters to be sampled."""
    return _json(samples=[])


def _write(mind: Mind, asked: Asked) -> str:
    scene = mind.scene
    if scene is None:
        return UNREADABLE
    cell = asked.first_line("Cell")
    rng = Random(digest(mind.image, cell, len(asked.listed("Refused before"))))
    item = ask(scene, _skill(scene, cell, mind.image), rng)
    if item.options:
        solved = solve(scene, item.question, tuple(rng.sample(item.options, len(item.options))))
        assert solved is not None, f"the world cannot answer its own question: {item.question!r}"
        item = solved[1]
    item = _with_answer(item, mind.shared(item))
    return _json(
        observation=item.facts_text,
        question=item.question,
        options=list(item.options),
        answer=item.answer,
        rationale=f"1. {item.target}\n2. {item.facts_text}\n3. {item.conclusion}",
    )


def _validate(mind: Mind, asked: Asked) -> str:
    item = _work_out(mind, asked)
    if mind.scene is None or item is None:
        category = mind.scene.category if mind.scene else ""
        reason = "The image does not settle this question." if mind.scene else UNREADABLE
        return _json(
            image_category=category,
            visible=False,
            answerable=False,
            unambiguous=False,
            answer_correct=False,
            reason=reason,
        )
    proposed = asked.first_line("Proposed answer")
    if mind.follows(item.question, asked.role):
        correct = _same(proposed, mind.shared(item))
    else:
        correct = _same(proposed, item.answer) is not mind.errs(item.question, asked.role)
    reason = "The image shows it." if correct else "The image shows another answer."
    return _json(
        image_category=mind.scene.category,
        visible=True,
        answerable=True,
        unambiguous=True,
        answer_correct=correct,
        reason=reason,
    )


def _judge(mind: Mind, asked: Asked) -> str:
    text = asked.values.get("Student's answer", "")
    if mind.scene is None:
        return _json(correct=False, error_type="other", description=UNREADABLE)
    correct = _same(final_answer(text) or text, asked.values.get("Reference answer", ""))
    finding = error_type(mind.scene, asked.question, text, asked.options)
    kind: str = finding.error if finding.error in ERROR_TYPES else "other"
    if mind.errs(f"{asked.question}\n{text}", asked.role):
        correct, kind = not correct, ERROR_TYPES[(ERROR_TYPES.index(kind) + 1) % len(ERROR_TYPES)]
    return _json(correct=correct, error_type=kind, description=finding.reason)


def _name_skill(mind: Mind, asked: Asked) -> str:
    item = _work_out(mind, asked)
    return _json(skill=item.skill if item else "unknown")


def _solve(mind: Mind, asked: Asked) -> str:
    item = _work_out(mind, asked)
    return _with_answer(item, mind.believes(item, asked.role)).completion() if item else UNREADABLE


def _reason(mind: Mind, asked: Asked) -> str:
    return write_rationale(asked)


ROLES: dict[str, Callable[[Mind, Asked], str]] = {
    "planner": _plan,
    "program planner": _leave_open,
    "question writer": _write,
    "validator": _validate,
    "judge": _judge,
    "skill analyst": _name_skill,
    "rationale writer": _reason,
    SOLVER: _solve,
    **ANALYSTS,
}
"""Role to the function that writes its reply."""


def _work_out(mind: Mind, asked: Asked) -> Item | None:
    solved = solve(mind.scene, asked.question, asked.options) if mind.scene else None
    return solved[1] if solved else None


def _skill(scene: Scene, cell: str, image: str) -> str:
    """Give the cell's skill, or one of the category where a cell names none that the world knows."""
    skills = skills_for(scene.category)
    wanted = cell.partition("/")[2]
    return wanted if wanted in skills else skills[pick(image, "skill", size=len(skills))]


def _with_answer(item: Item, answer: str) -> Item:
    """Make the item as somebody believes it who ends at `answer`."""
    if answer == item.answer:
        return item
    said = item.options[ord(answer) - ord("A")] if item.options else answer
    return replace(item, conclusion=f"so it is {said}", answer=answer)


def _answers(item: Item) -> tuple[str, ...]:
    return tuple("ABCDEFGHIJ"[: len(item.options)]) if item.options else _vocabulary(item.skill)


@cache
def _vocabulary(skill: str) -> tuple[str, ...]:
    """Answers that occur for a skill."""
    rng = Random(skill)
    return tuple(sorted({ask(make_scene(CATEGORY_OF[skill], 2, rng), skill, rng).answer for _ in range(80)}))


def _same(answer: str, other: str) -> bool:
    return normalise(answer) == normalise(other)


def _json(**values: object) -> str:
    return json.dumps(values, ensure_ascii=False)


def digest(*key: object) -> int:
    """64 bits of the key's SHA-256."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")


def chance(*key: object) -> float:
    """Draw from [0, 1), fixed by the key."""
    return digest(*key) / 2**64


def pick(*key: object, size: int) -> int:
    """Draw from range(size), fixed by the key."""
    return digest(*key, "pick") % size
