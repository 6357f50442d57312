r"""The answer that a completion gives, as text. Nothing is ever evaluated as code.

Where the answer stands, first rule that finds a place:

1. what follows the last `answer:` (also `answer =`, `the correct option is:`, or a line `Answer`), on its line or else
   on the next line with text; for a choice also the marked letter, such as `(B)` or `B.`, that a line about the answer
   or the options leads to with its closing colon;
2. inside the last `<answer>` tags, or the last `\boxed{...}`;
3. what follows the last `the answer is`;
4. for a choice, the option that a sentence names: `... is option B`, `B. red is the correct answer`;
5. last resort, for a completion that marks no answer: its last or its first line when that begins with a marked letter
   and the line beside it does not begin with another (that is a list); all of it when it is one short line.
   A number in running text is never taken.

A place that is turned round (`the wrong answer is`) is none, and a letter that is refused (`A is wrong, so B`) is never
the answer: see `ruled_out`.

What must stand there depends on the kind: exactly one letter of the options, exactly one number, or some words.
"""

import re
import unicodedata
from collections.abc import Sequence

from dpe_ray.grading.numbers import only_number
from dpe_ray.grading.ruled_out import keeps, left_over, ruled_out, turned_round
from dpe_ray.types import AnswerKind

LONGEST = 20_000
"""Characters read, from the end: answers stand last."""
SHORT_WORDS = 6
"""Words of a reply that may be an answer without saying so."""

_COLON = re.compile(
    r"\b(?:answers?|(?:the|correct|right|best|closest|final)\s(?:option|choice)|(?:option|choice)(?=\s{1,3}is\b))"
    r"\s{0,3}(?:is|are)?\s{0,3}[:=]|^[ \t]*(?:the |final |correct )*answer[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_LEADS_TO_LETTER = re.compile(
    r"\b(?!(?i:option|choice) \(?[A-Z]\b)(?i:answer|options?|choice|closest|correct)\b"
    r"(?:(?!\b(?i:option|choice) \(?[A-Z]\b)[^\n]){0,200}:\s{0,9}"
    r"(?=\(?[A-Z](?:[).:](?=\s)|\)?[ \t]*$))(?![^\n]*\n\s{0,9}\(?[A-Z][).:]\s)",
    re.MULTILINE,
)
_PHRASE = re.compile(r"\b(?:answer|option|choice)\s+(?:is|would be|should be|must be)\s+", re.IGNORECASE)
_NAMES_OPTION = re.compile(
    r"\b(?i:is|be|to|with|match|matches|matching|choose|select|pick)\s+(?i:the\s+)?"
    r"(?=(?i:option|choice|letter)\s+\(?[A-Z]\b)"
)
_IS_THE_ANSWER = re.compile(
    r"^[ \t]*(?i:(?:so|thus|hence|therefore),?[ \t]+)?(?=(?i:option[ \t]+)?\(?[A-Z]\)?[.:]?[ \t][^\n]*"
    r"\b(?i:is the (?:correct|right|best|closest|final) (?:answer|option|choice))\b)",
    re.MULTILINE,
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_PLACEHOLDER = re.compile(r"<[^<>]*>|\[\s*(?:your )?answer\s*\]|\.{2,}|_+", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i (?:cannot|can't|can not|could not|couldn't|am unable|do not know|don't know)"
    r"|i'?m (?:sorry|unable|not able)|as an ai|unable to|cannot be determined)\b",
    re.IGNORECASE,
)
_MARKED_LETTER = re.compile(r"^(?:\(([a-z])\)|\[([a-z])\]|([a-z])(?:[).:]|$))(?=\s|$)", re.IGNORECASE)
_MARKED_LINE = re.compile(r"^(?:option |choice )?[(\[]?([a-z])(?:[).:\]]|$)(?=\s|$)", re.IGNORECASE)
_NAMED_LETTER = re.compile(
    r"^(?:the )?(?:correct )?(?:option|choice|letter) ?:? ?\(?([a-z])\)?(?![a-z])", re.IGNORECASE
)
_BARE_LETTER = re.compile(r"^([A-Za-z])(?=\s|,|;|$)")
_AFTER_ARTICLE = re.compile(r"^[aA]\s+(?!(?:is|because|since|as|and|or|,)\b)\w")
_SECOND_LETTER = re.compile(r"^\W*(?:and|or|&|/|,)\s*(?:option\s+)?\(?([a-z])\)?(?![a-z])", re.IGNORECASE)


def extract_answer(text: str, kind: AnswerKind, letters: str = "") -> str | None:
    """Find the answer and bring it into the form of its kind; None when the completion gives none.

    `choice` gives one of `letters`, upper case; `number` gives a plain number, fraction or percentage as
    `-1234.5`, `3/4`, `45%`; `text` gives the words without markup and end punctuation. Two different answers in the
    place of one give None.
    """
    place = answer_span(text, letters if kind is AnswerKind.CHOICE else "")
    if place is None:
        return None
    if kind is AnswerKind.CHOICE:
        return _letter(place, letters)
    if kind is AnswerKind.NUMBER:
        return only_number(place)
    return place


def answer_span(text: str, letters: str = "") -> str | None:
    """Cut out the words in the place of the answer, in plain characters; None without such a place or words in it.

    With `letters`, places where only the letter of an option may stand are looked at too.
    """
    plain = plain_text(text[-LONGEST:])
    place = (
        _after(plain, _COLON, *([_LEADS_TO_LETTER] if letters else []))
        or _tagged(plain)
        or _boxed(plain)
        or _after(plain, _PHRASE)
        or (_after(plain, _NAMES_OPTION, _IS_THE_ANSWER) if letters else None)
        or _unmarked(plain)
        or (_excluding(plain) if letters else None)
    )
    if place is None or _PLACEHOLDER.fullmatch(place.strip()):
        return None
    return " ".join(_balanced(place).split()).strip(" \"'").rstrip(" .;,!?:").strip(" \"'") or None


def plain_text(text: str) -> str:
    """Bring unicode digits, signs and quotes to ASCII, take off markdown and LaTeX markup; lines are kept."""
    text = unicodedata.normalize("NFKC", text.replace("½", " 1/2").replace("¼", " 1/4").replace("¾", " 3/4"))
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text).translate(_CHARACTERS)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


_CHARACTERS = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2044": "/",
        "\u00d7": "x",
        "\u066b": ".",
        "\u066c": ",",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u200b": None,
        "\ufeff": None,
    }
)
_MARKUP = (
    (re.compile(r"\*{1,3}|`+|(?<!\w)__|__(?!\w)"), ""),
    (re.compile(r"(?m)^[ \t]*(?:#{1,6}|>)[ \t]+"), ""),
    (re.compile(r"\\[dt]?frac\s{0,3}\{([^{}]*)\}\s{0,3}\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s{0,3}\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\times|\\cdot"), "x"),
    (re.compile(r"\^\s{0,3}\{?\s{0,3}\\circ\s{0,3}\}?|\\degree"), " degrees"),
    (re.compile(r"\\[()\[\],;!]|(?<!\\)\$(?!\s*\d[\d,.]*(?:\s|$|[^$\d,.]))|\\left|\\right"), ""),
    (re.compile(r"\\([%$#&])"), r"\1"),
)


def _after(text: str, *markers: re.Pattern[str]) -> str | None:
    found = [match for marker in markers for match in marker.finditer(text)]
    ends = [match.end() for match in found if not turned_round(match)]
    if not ends:
        return None
    rest = text[max(ends) :].strip().split("\n", 1)[0].strip()
    return _tagged(rest) or _boxed(rest) or rest or None


def _tagged(text: str) -> str | None:
    start, end = text.rfind("<answer>"), text.rfind("</answer>")
    return text[start + len("<answer>") : end].strip() or None if 0 <= start < end else None


def _boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{}`, braces balanced; None without one or when it is cut off."""
    starts = [match.end() for match in _BOXED.finditer(text)]
    if not starts:
        return None
    depth = 1
    for at in range(starts[-1], len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[starts[-1] : at].strip() or None
    return None


def _balanced(place: str) -> str:
    r"""Take off the closing braces of a box that opened before the place: of `\boxed{Answer: B}` stays `B`."""
    while place.endswith("}") and place.count("}") > place.count("{"):
        place = place[:-1].rstrip()
    return place


def _unmarked(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line for line in (_alone(lines[:2]), _alone(lines[:-3:-1])) if line]
    if own:
        return own[-1] if len({_marked(line) for line in own}) == 1 else None
    if not lines or _REFUSAL.search(text):
        return None
    return lines[0] if len(lines) == 1 and len(lines[0].split()) <= SHORT_WORDS else None


def _excluding(text: str) -> str | None:
    """The last line when it refuses letters: what it does not refuse may be the answer."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines and (ruled_out(lines[-1]) or keeps(lines[-1])) else None


def _alone(lines: Sequence[str]) -> str | None:
    """The first line when it begins with a marked letter and its neighbour does not begin with another."""
    letters = [_marked(line) for line in lines]
    return lines[0] if any(letters[:1]) and letters[-1] in (letters[0], "") else None


def _marked(line: str) -> str:
    found = _MARKED_LINE.match(line)
    return found[1].upper() if found else ""


def _letter(place: str, letters: str) -> str | None:
    """The letter that the place begins with, or, where that is refused there, the one that is left over."""
    letter = _first_letter(place, letters)
    refused = ruled_out(place)
    excludes = refused or keeps(place)
    return left_over(place, letters) if excludes and (letter is None or letter in refused) else letter


def _first_letter(place: str, letters: str) -> str | None:
    for pattern in (_MARKED_LETTER, _NAMED_LETTER, _BARE_LETTER):
        if pattern is _BARE_LETTER and _AFTER_ARTICLE.match(place):
            return None
        if found := pattern.match(place):
            letter = next(group for group in found.groups() if group).upper()
            second = _SECOND_LETTER.match(place[found.end() :])
            if letter not in letters or (second and second[1].upper() in letters.replace(letter, "")):
                return None
            return letter
    return None
