"""Questions that hold their options, as lettered lines or as a list within the text, taken apart.

Seen in LLaVA-1.5's mix and lmms-eval's MMMU (`A. ...` lines), Vision-Flan (`Options: (a) ... (b) ...`), MMStar
(`Options: A: ..., B: ...`).
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from dpe_ray.grading.rows import LETTERS

_LINE = re.compile(r"^[ \t]*(?:\(([A-Za-z])\)|([A-Za-z])[.):])[ \t]+(\S[^\n]*)$", re.MULTILINE)
_LIST = re.compile(r"\b(?:options|choices)[ \t]*:\s*(?=\(a\))([^\n|]*)", re.IGNORECASE)
_LETTER = re.compile(r"\(([a-z])\)\s*", re.IGNORECASE)
_INLINE = re.compile(r"\b(?:options|choices)[ \t]*:\s*(?=A: )([^\n]*)", re.IGNORECASE)
_INLINE_LETTER = re.compile(r"(?:\A|,\s*)([A-Z]): ")
_HEADING = re.compile(r"\b(?:there are several )?(?:options|choices)[ \t]*:?\s*\Z", re.IGNORECASE)
_CLOSING = re.compile(r"\s*(?:answer with|please (?:answer|select|choose))\b[^\n]*\Z", re.IGNORECASE)


class Asked(NamedTuple):
    """A question without its options, and they."""

    question: str
    options: tuple[str, ...] = ()


def split_options(text: str) -> Asked:
    """Take lettered options out of a question; it keeps them unless they run from A on without other text between.

    A closing line such as `Answer with the option's letter` goes with them.
    """
    lines = list(_LINE.finditer(text))
    apart = any(text[one.end() : other.start()].strip() for one, other in pairwise(lines))
    if _runs([line[1] or line[2] for line in lines]) and not apart:
        question = _HEADING.sub("", text[: lines[0].start()]) + _CLOSING.sub("", text[lines[-1].end() :])
        return Asked(question.strip(), tuple(line[3].strip() for line in lines))
    for listing, letter in ((_LIST, _LETTER), (_INLINE, _INLINE_LETTER)):
        listed = listing.search(text)
        parts = letter.split(listed[1]) if listed else []
        if listed and _runs(parts[1::2]):
            question = text[: listed.start()] + _CLOSING.sub("", text[listed.end() :])
            return Asked(question.strip(" \n|"), tuple(part.strip() for part in parts[2::2]))
    return Asked(text)


def _runs(letters: Sequence[str]) -> bool:
    """Whether there are two or more, and they are A, B, C, ... in this order."""
    return len(letters) > 1 and "".join(letters).upper() == LETTERS[: len(letters)]
