"""The micro world: procedural pictures whose every question can be asked, answered and misanswered exactly."""

from dpe_ray.micro.world.api import (
    CATEGORIES,
    CATEGORY_OF,
    SKILLS,
    ask,
    cell_labels,
    draw,
    error_type,
    make_scene,
    skills_for,
    solve,
    wrong_item,
)
from dpe_ray.micro.world.base import AnswerKind, ErrorType, Item, Scene, Skill, WrongRule
from dpe_ray.micro.world.judge import Finding, final_answer

__all__ = [
    "CATEGORIES",
    "CATEGORY_OF",
    "SKILLS",
    "AnswerKind",
    "ErrorType",
    "Finding",
    "Item",
    "Scene",
    "Skill",
    "WrongRule",
    "ask",
    "cell_labels",
    "draw",
    "error_type",
    "final_answer",
    "make_scene",
    "skills_for",
    "solve",
    "wrong_item",
]
