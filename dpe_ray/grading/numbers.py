"""Numbers as people and models write them. Read with patterns and float(), never evaluated."""

import math
import re
from dataclasses import dataclass

WORDS = dict(
    zip(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
        (str(value) for value in range(13)),
        strict=True,
    )
)
"""Number words up to twelve."""

LONGEST = 400
"""Characters of an answer in which a number is looked for."""

_PLAIN = r"\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.,^])(?P<sign>[-+]\s*)?(?:[$\u20ac\u00a3\u00a5]\s*)?"
    rf"(?:(?P<whole>\d+)\s+(?=\d+\s*/\s*\d))?"
    rf"(?:\((?P<top>-?\d[\d.]*)\)\s*/\s*\((?P<bottom>-?\d[\d.]*)\)"
    rf"|(?P<value>{_PLAIN})(?![,.]?\d)(?:\s*/\s*(?P<under>\d[\d.]*))?"
    rf"(?:\s*(?:e|[x*]\s*10\s*\^)\s*\{{?(?P<exponent>[-+]?\d{{1,3}})\}}?(?!\w))?)"
    rf"\s*(?P<percent>%|percent\b|per cent\b)?",
    re.IGNORECASE,
)
_WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A value as written, and whether a percent sign stood behind it."""

    value: float
    percent: bool = False

    def equals(self, other: "Number", tolerance: float = 0.0) -> bool:
        """Within the absolute tolerance, or 1e-6 relative for what rounding leaves.

        A percent sign on one side only is a unit (45 = 45%) or a factor (0.45 = 45%): both are right.
        """
        pairs = [(self.value, other.value)]
        if self.percent != other.percent:
            pairs.append((self.value / (100 if self.percent else 1), other.value / (100 if other.percent else 1)))
        return any(math.isclose(a, b, rel_tol=1e-6, abs_tol=tolerance * (1 + 1e-9)) for a, b in pairs)


def only_number(text: str) -> str | None:
    """Find the single number in the text, as `-1234.5`, `3/4` or `45%`; None for none or several.

    Of `3 + 5 = 8` the part behind the last equals sign counts; remarks in brackets behind the number do not.
    """
    text = text[:LONGEST].rpartition("=")[2]
    text = _WORD.sub(lambda word: WORDS[word[0].lower()], text)
    found = list(_NUMBER.finditer(text))
    if len(found) > 1:
        text = re.sub(r"(?<=[\w%])\s*\([^()]*\)", "", text)
        found = list(_NUMBER.finditer(text))
    if len(found) != 1:
        return None
    written = _written(found[0])
    return written if parse_number(written) is not None else None


def parse_number(text: str) -> Number | None:
    """Read what `only_number` gave; None for anything else, a zero denominator or a value without end."""
    percent = text.endswith("%")
    top, _, bottom = text.removesuffix("%").partition("/")
    try:
        value = float(top) / (float(bottom) if bottom else 1.0)
    except (ValueError, ZeroDivisionError):
        return None
    return Number(value, percent) if math.isfinite(value) else None


def _written(found: re.Match[str]) -> str:
    sign = "-" if (found["sign"] or "").strip() == "-" else ""
    percent = "%" if found["percent"] else ""
    if found["top"]:
        return f"{sign}{found['top']}/{found['bottom']}{percent}"
    value = _decimal(found["value"])
    if found["whole"]:
        value = f"{int(found['whole']) * int(found['under'].split('.')[0] or 1) + int(found['value'])}"
    if found["exponent"]:
        value += f"e{found['exponent']}"
    return f"{sign}{value}{'/' + found['under'] if found['under'] else ''}{percent}"


def _decimal(text: str) -> str:
    """`1,234.5` and `1 234.5` lose their separators; a lone comma that is none of thousands is a decimal comma."""
    if re.fullmatch(r"\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?", text):
        return re.sub("[, ]", "", text)
    return text.replace(",", ".")
