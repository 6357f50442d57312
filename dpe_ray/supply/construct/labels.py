"""Text that a program may draw: it appears letter by letter as it was given, or it is refused."""

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Annotated

from matplotlib.ft2font import FT2Font
from pydantic import AfterValidator, StringConstraints

from dpe_ray.grading.rules import normalise
from dpe_ray.supply.construct.drawing import FONT_FILE

_LEFT_TO_RIGHT = {"L", "EN", "ES", "ET", "CS", "ON", "WS"}
"""Bidirectional classes that need no reordering."""


def literal(text: str) -> str:
    """Give the text back when every character has a glyph of its own. Raises ValueError.

    Refused are control characters, combining marks, right-to-left scripts, glyphs that the font lacks (most emoji and
    CJK), double quotes, which delimit names in questions, and text that a grader could not tell from nothing.
    """
    for char in text:
        code = f"U+{ord(char):04X}"
        if unicodedata.category(char)[0] in "CMZ" and char != " ":
            raise ValueError(f"{code} is no printable character")
        if unicodedata.bidirectional(char) not in _LEFT_TO_RIGHT:
            raise ValueError(f"{code} is written from right to left")
        if ord(char) not in _glyphs() or char == '"':
            raise ValueError(f"{code} cannot be drawn here")
    if not normalise(text):
        raise ValueError(f"{text!r} holds neither letter nor digit")
    return " ".join(text.split())


def distinct(labels: Iterable[str]) -> None:
    """Raise ValueError when a grader would take two of the labels for the same."""
    seen: dict[str, str] = {}
    for label in labels:
        key = normalise(label)
        if key in seen:
            raise ValueError(f"{label!r} and {seen[key]!r} read the same")
        seen[key] = label


Label = Annotated[str, StringConstraints(min_length=1, max_length=14), AfterValidator(literal)]
"""A name in a picture, 1-14 characters."""
Title = Annotated[str, StringConstraints(min_length=1, max_length=40), AfterValidator(literal)]
"""A heading, 1-40 characters."""


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(FONT_FILE).get_charmap())
