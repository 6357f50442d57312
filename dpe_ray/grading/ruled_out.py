"""Letters that a sentence names in order to refuse them: `A is wrong`, `not A`, `neither A nor B`, `rule out C`."""

import re

_ONE = r"(?:[Oo]ptions?\s+|[Cc]hoices?\s+|[Ll]etters?\s+)?\(?[A-Z]\)?(?!\w|')"
_LIST = rf"{_ONE}(?:(?:\s*,\s*{_ONE}){{0,24}}\s*,?\s*(?:\band\b|\bor\b|\bnor\b|&|/)\s*{_ONE})?"
_MANY = rf"{_ONE}(?:\s*(?:,|,?\s+(?:and|or|nor)\b|&|/)\s*{_ONE}){{1,25}}(?!\s+(?:is|was|does|looks|seems)(?:\b|n't))"
"""Several letters, of which a verb in the singular speaks of the last only: `B, and A is wrong`."""
_EITHER = rf"{_ONE}(?:\s+(?:or|nor)\s+{_ONE}){{0,25}}"
_BE = r"(?:is|are|was|were|looks?|seems?)"
_BAD = (
    r"(?:wrong|incorrect|false|out(?!\s+of\b)|invalid|impossible|implausible|unlikely|ruled\s+out|eliminated|excluded|rejected"
    r"|refuted|disproved)"
)
_GOOD = (
    r"(?:right|correct|true|valid|possible|plausible|likely|supported|it"
    r"|(?:the|a|my)\s+(?:\w+\s+)?(?:answer|option|choice))"
)
_NOT = r"(?:\s+not|n't)(?:\s+be)?"
_FAILS = (
    rf"(?:{_BE}\s+(?:\w+ly\s+|also\s+|both\s+|all\s+)?{_BAD}"
    rf"|(?:{_BE}|could|would|should|must|does|do|did|can){_NOT}\s+(?:\w+ly\s+)?(?:{_GOOD}|match|fit|work|hold|apply)"
    rf"|(?:cannot|can't)\s+(?:be\s+(?:\w+ly\s+)?{_GOOD}|hold|work)"
    rf"|(?:can|could|must|may)\s+be\s+(?:\w+ly\s+)?{_BAD})\b"
)
_SUBJECT = re.compile(rf"\b(?P<letters>{_MANY}|{_EITHER})\s+(?i:{_FAILS})")
_REFUSING = (
    r"(?:(?:\b(?:not|never|cannot)|n't)(?:\s+(?:choose|select|pick|be))?"
    r"|\b(?:wrong|incorrect|false)\s+(?:answers?|options?|choices?)\s*(?:is|are|:)"
    r"|\b(?:neither|nor|except|without|rather\s+than|instead\s+of|anything\s+but|all\s+but)"
    r"|\b(?:so|neither|nor|as)\s+(?:is|are|does|do)"
    r"|\brul(?:e|es|ed|ing)\s+out|\beliminat(?:e|es|ed|ing)|\bexclud(?:e|es|ed|ing)"
    r"|\breject(?:s|ed|ing)?|\bdiscard(?:s|ed|ing)?|\bdismiss(?:es|ed|ing)?)"
)
_OBJECT = re.compile(rf"(?i:{_REFUSING}\s+(?:both\s+|either\s+)?)(?P<letters>{_LIST})")
_BUT = r"(?:but|except(?:\s+for)?)"
_KEPT = re.compile(
    r"(?i:(?:\b(?:not|never|cannot|hardly)|n't)(?:\s+\w+){0,3}\s+anything\s+(?:but|except)"
    rf"|\b(?:none|neither|no\s+\w+)\b[^.,;:\n]{{0,40}}\s{_BUT}"
    rf"|\b(?:all|every\w*|each|any)\b[^.,;:\n]{{0,40}}?\s{_FAILS}[^.;:\n]{{0,10}}\sexcept(?:\s+for)?)"
    rf"\s+(?={_ONE})"
)
"""What leads to a letter that is kept from a refusal: `all are wrong except`."""
_ALL_BUT = re.compile(rf"\b(?i:all|every\w*)(?:\s+\w+){{0,2}}\s+(?i:{_BUT})\s+(?P<letters>{_LIST})\s+(?i:{_FAILS})")
_NAMED = re.compile(
    r"(?<![\w'])\(?([A-Z])\)?(?=$|[^\w']*$|[.,;:!?)]|\s+(?:is|does|fits|remains|must|because|since|as|and|or)\b)"
)
_TURNED = re.compile(
    r"\b(?:wrong|incorrect|false|bad|not[ \t]+(?:an?|the))(?:[ \t]+\w+)?"
    r"[ \t]+(?:answers?|options?|choices?)[ \t]*(?:is|are)?[\s:=]*\Z",
    re.IGNORECASE,
)
_NEVER = re.compile(
    r"(?:\b(?:not|never|cannot|neither)|n't)[ \t]+"
    r"(?:(?:\w+[ \t]+)?|(?:think|believe|say)[ \t]+(?:that[ \t]+)?the[ \t]+)\Z",
    re.IGNORECASE,
)
_LOOKED_AT = 60
"""Characters around a marker of an answer that may turn it round."""


def ruled_out(text: str) -> frozenset[str]:
    """All letters that the text refuses."""
    straight = _straight(text)
    found = [match["letters"] for pattern in (_SUBJECT, _OBJECT) for match in pattern.finditer(straight)]
    return frozenset(letter for letters in found for letter in re.findall(r"(?<!\w)[A-Z](?!\w)", letters))


def keeps(text: str) -> bool:
    """Whether the text keeps letters from a refusal of all: `anything but` behind a negative, `none except`."""
    return _straight(text) != text


def left_over(text: str, letters: str) -> str | None:
    """The one of `letters` that the text names and does not refuse; None for none or several."""
    refused = ruled_out(text)
    rest = _OBJECT.sub(" ", _SUBJECT.sub(" ", _straight(text)))
    named = {letter for letter in _NAMED.findall(rest) if letter in letters} - refused
    return named.pop() if len(named) == 1 else None


def _straight(text: str) -> str:
    """The text with letters that an exception keeps named without it: `all but B are wrong` becomes `: B`."""
    return _KEPT.sub(": ", _ALL_BUT.sub(r": \g<letters>.", text))


def turned_round(marker: re.Match[str]) -> bool:
    """Whether a marker leads to what is not the answer: `the wrong answer is`, `I would not choose`."""
    text, start, end = marker.string, marker.start(), marker.end()
    before, through = text[max(0, start - _LOOKED_AT) : start], text[max(0, end - _LOOKED_AT) : end]
    return bool(_NEVER.search(before) or _TURNED.search(through))
