"""Error type of a student's text, from the scene, the question and the text alone.

A text is compared step by step with the right one: the first step that differs names the error. Nothing here knows
which mistakes a student was taught.
"""

import re
from typing import NamedTuple

from dpe_ray.micro.world.base import ErrorType, Item

_STEPS = re.compile(r"1\.\s*(.*?)\s*2\.\s*(.*?)\s*3\.\s*(.*?)\s*answer\s*:\s*(.*)", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"answer\s*:\s*(.*?)\s*$", re.IGNORECASE)
_ARITHMETIC = re.compile(r"=|\bmakes\b")


class Parsed(NamedTuple):
    """The parts of a student's text, lower case, without punctuation at the ends."""

    target: str
    facts: str
    conclusion: str
    answer: str


class Finding(NamedTuple):
    """Kind of an error and the reason in one sentence."""

    error: ErrorType
    reason: str


def parse(text: str) -> Parsed | None:
    """Read three numbered steps and an answer; None where a part is missing."""
    found = _STEPS.search(text)
    return Parsed(*(_plain(part) for part in found.groups())) if found else None


def final_answer(text: str) -> str:
    """Return what stands after the last `answer:`, lower case; "" if nothing does."""
    found = _ANSWER.search(text.strip())
    return _plain(found.group(1)) if found else ""


def find_error(truth: Item, text: str) -> Finding:
    """Compare a text with the right item; type `none` if every step and the answer agree."""
    steps = parse(text)
    if steps is None:
        return Finding("other", "the text has no three steps with an answer")
    if steps.target != _plain(truth.target):
        return Finding("misunderstanding", f"asked for '{truth.target}', the text looks for '{steps.target}'")
    if steps.facts != _plain(truth.facts_text):
        return Finding("visual_recognition", f"the picture shows '{truth.facts_text}', the text saw '{steps.facts}'")
    if steps.conclusion != _plain(truth.conclusion):
        kind: ErrorType = "calculation" if _ARITHMETIC.search(truth.conclusion) else "reasoning"
        return Finding(kind, f"from the facts follows '{truth.conclusion}', the text says '{steps.conclusion}'")
    if steps.answer != _plain(truth.answer):
        return Finding("reasoning", f"the steps lead to '{truth.answer}', the answer is '{steps.answer}'")
    return Finding("none", "every step agrees with the picture")


def _plain(text: str) -> str:
    return " ".join(text.lower().replace(",", " ").split()).strip(" .()")
