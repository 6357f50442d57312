"""What the oracle answers to the agents that look for an image: it knows the category behind every picture."""

import json
from collections.abc import Callable, Sequence

from dpe_ray.micro.asked import Asked
from dpe_ray.micro.world import CATEGORIES, SKILLS, Scene, skills_for

Shown = Sequence[Scene | None]
"""The scenes of all images of a request; None for one that it cannot read."""


def _plan_cell(shown: Shown, asked: Asked) -> str:
    """Search by the category's words; a skill that the world does not know gets the kind of one that it does."""
    category, _, skill = asked.first_line("Cell").rpartition("/")
    known = skills_for(category) if category in CATEGORIES else ()
    kind = SKILLS[skill if skill in known else known[0]].kind if known else "text"
    words = category.replace("_", " ")
    plan = f"Ask about what the picture shows, so that {skill.replace('_', ' ')} is needed."
    return json.dumps(
        {"query": words, "must_show": words, "question_type": kind, "difficulty": "medium", "plan": plan, "edit": ""}
    )


def _select(shown: Shown, asked: Asked) -> str:
    """Take the first picture of the category."""
    wanted = asked.first_line("Category")
    fitting = [number for number, scene in enumerate(shown, 1) if scene and scene.category == wanted]
    reason = "It belongs to the category." if fitting else f"No picture of {wanted}."
    return json.dumps({"chosen": fitting[:1], "reason": reason})


def _edit(shown: Shown, asked: Asked) -> str:
    """Leave the picture as it is: an edited one would be unknown."""
    return json.dumps({"edit": {}, "reason": "It serves as it is."})


ILLUSTRATORS: dict[str, Callable[[Shown, Asked], str]] = {
    "cell planner": _plan_cell,
    "image selector": _select,
    "image editor": _edit,
}
"""Role to the function that writes its reply."""
