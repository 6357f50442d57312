"""What an analyst may call a skill: not the answer, nothing that only this item holds, nothing that says nothing.

Names would be cells and queries otherwise that fit one item only, or every item.
"""

import re
from collections.abc import Iterable, Sequence

from dpe_ray.taxonomy import canonical
from dpe_ray.types import AnswerKind, Sample

LONGEST = 15
"""Words of a skill in the analyst's own words."""

_EMPTY = re.compile(
    "a|ability|an|analysis|analy[sz]e|and|answer|answering|attention|basic|careful|common|comprehension|content|"
    "correct|details?|for|general|good|images?|in|interpretation|interpreting|knowledge|na?|none|of|other|perception|"
    "perceptual|pictures?|problems?|questions?|reasoning|recognition|recogni[sz]e|sense|skills?|solving|task|the|"
    "thinking|to|understand|understanding|unknown|unspecified|using|vision|visual|with"
)
"""A name of these words alone fits every item."""
_NO_LEAKS = ("yes", "no", "true", "false", "none", "both", "left", "right")
"""Answers that are everyday words of any skill's name."""
_NAME = re.compile(r"(?<![.?!:\n\"'(])(?<!^) ([A-Z][a-z]{2,})\b")
"""A capital inside a sentence; the first word of a sentence or of an option tells nothing."""
_QUOTED = re.compile('["\u201c]([^"\u201c\u201d]{1,40})["\u201d]')
_CODE = re.compile(r"\b(?![23]d\b)[a-z]*\d[a-z0-9]*\b", re.IGNORECASE)
"""Numbers, years, cells such as b3; 2D and 3D are no item's own."""


def refusal(said: str, sample: Sample, known: Sequence[str] = (), longest: int = LONGEST) -> str:
    """Why a skill's name or wording cannot be used for this item, reason word first; empty when it can.

    Names of known skills pass whatever the item's answer is: they were not coined from it. Entities are found by form
    alone (capitals inside a sentence, quotations, numbers), so a common noun of the question passes.
    """
    if canonical(said) in {canonical(name) for name in known}:
        return ""
    words = canonical(said).split("_")
    if all(_EMPTY.fullmatch(word) or not re.search("[a-z]{2}", word) for word in words):
        return f"generic: {said!r} says nothing about this question"
    if len(words) > longest:
        return f"long: {len(words)} words are more than {longest}"
    if leaked := _first_within(answer_texts(sample), words):
        return f"leak: {said!r} holds the answer {leaked!r}"
    if named := _first_within(entities(sample), words):
        return f"entity: {said!r} names {named!r}, which only this item shows"
    return ""


def answer_texts(sample: Sample) -> tuple[str, ...]:
    """What the answer is called where that gives it away: of a choice its option's text, else value and aliases.

    Not yes, no and the like, and nothing that the question itself offers (`odd or even?`).
    """
    answer = sample.answer
    texts: tuple[str, ...] = (answer.value, *answer.aliases)
    if answer.kind is AnswerKind.CHOICE and answer.value in tuple(sample.letters):
        texts = (sample.options[sample.letters.index(answer.value)],)
    offered = canonical(sample.question).split("_")
    return tuple(t for t in texts if t.strip().lower() not in _NO_LEAKS and not _first_within([t], offered))


def entities(sample: Sample) -> tuple[str, ...]:
    """Proper names, quotations and numbers of question and options, in the order in which they stand."""
    found: list[str] = []
    for text in (sample.question, *sample.options):
        capitals = sum(word[0].isupper() for word in text.split())
        if capitals <= max(2, len(text.split()) / 2):  # a title capitalises everything
            found += _NAME.findall(text)
        found += [*_QUOTED.findall(text), *_CODE.findall(text)]
    return tuple(dict.fromkeys(found))


def _first_within(texts: Iterable[str], words: Sequence[str]) -> str:
    """Find the first text all of whose words are among `words`."""
    for text in texts:
        own = set(canonical(text).split("_")) - {""}
        if own and own <= set(words):
            return text
    return ""
