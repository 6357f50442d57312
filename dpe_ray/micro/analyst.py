"""What the oracle answers as error analyst, skill lister and observer: from the scene and the question, never wrong.

An error's first skill is the one that the question asks for; further ones are the ability that the kind of the mistake
speaks of, in the same words in which the lister labels exercises whose known mistakes are of that kind.
"""

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from dpe_ray.micro.asked import Asked
from dpe_ray.micro.world import SKILLS, Item, error_type, solve
from dpe_ray.micro.world.base import CELLS, COLUMNS, ROWS

if TYPE_CHECKING:
    from dpe_ray.micro.roles import Mind

ABILITIES = {
    "visual_recognition": ("see_fine_detail", "tell similar marks in a small cell apart", "perception"),
    "calculation": ("do_arithmetic", "carry out a short calculation without a slip", "reasoning"),
    "reasoning": ("draw_conclusion", "conclude what follows from the facts that were seen", "reasoning"),
    "misunderstanding": ("follow_wording", "look for exactly what was asked", "instruction"),
    "other": ("finish_in_steps", "write short steps and finish with the result", "format"),
}
"""Error type of the world to name, wording and error kind of the ability behind it."""


def _analyse_error(mind: "Mind", asked: Asked) -> str:
    item = _item(mind, asked)
    if mind.scene is None or item is None:
        return "I cannot tell."
    lines = asked.values.get("Student's steps", "").split("\n")
    steps = [line.removeprefix(">> ") for line in lines if re.match(r"(>> )?\d+\. ", line)]
    marked = next((line.removeprefix(">> ") for line in lines if line.startswith(">> ")), "")
    said = asked.first_line("Student's answer")
    text = "\n".join([*steps, f"answer: {said}"])
    finding = error_type(mind.scene, asked.question, text, asked.options)
    name, words, kind = ABILITIES.get(finding.error, ABILITIES["other"])
    skills = [{"name": item.skill, "skill": SKILLS[item.skill].description, "weight": 1.0}]
    if asked.first_line("Skills wanted") != "1":
        skills[0]["weight"] = 0.7
        skills.append({"name": name, "skill": words, "weight": 0.3})
    return json.dumps({"skills": skills, "evidence": re.sub(r"^\d+\. ", "", marked), "error_kind": kind})


def _list_skills(mind: "Mind", asked: Asked) -> str:
    item = _item(mind, asked)
    if item is None:
        return "I cannot tell."
    skill = SKILLS[item.skill]
    kinds = dict.fromkeys(rule.error for rule in skill.rules)
    return json.dumps({"skills": [skill.description, *[ABILITIES[kind][1] for kind in kinds]]})


def _observe(mind: "Mind", asked: Asked) -> str:
    item = _item(mind, asked)
    if item is None:
        return "I cannot tell."
    return json.dumps({"facts": item.facts_text, "region": _region(item.facts_text)})


ANALYSTS: dict[str, Callable[["Mind", Asked], str]] = {
    "error analyst": _analyse_error,
    "skill lister": _list_skills,
    "observer": _observe,
}
"""Role to the function that writes its reply."""


def _item(mind: "Mind", asked: Asked) -> Item | None:
    solved = solve(mind.scene, asked.question, asked.options) if mind.scene else None
    return solved[1] if solved else None


def _region(facts: str) -> list[float] | None:
    """Smallest part of the picture that holds every cell of the facts, in fractions; None when they name none."""
    cells = [word for word in facts.split() if word in CELLS]
    if not cells:
        return None
    columns, rows = [COLUMNS.index(cell[0]) for cell in cells], [ROWS.index(cell[1]) for cell in cells]
    return [min(columns) / 4, min(rows) / 4, (max(columns) + 1) / 4, (max(rows) + 1) / 4]
