"""Numbers as people and models write them. Read with patterns and float(), never evaluated."""

import math
import re
from dataclasses import dataclass

from dpe_ray.grading.number_words import SCALES, in_digits

LONGEST = 400
"""Characters of an answer in which a number is looked for."""

_PLAIN = r"\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.,^])(?P<sign>[-+]\s*)?(?:[$\u20ac\u00a3\u00a5]\s*)?"
    rf"(?:(?P<whole>\d+)\s+(?=\d+\s*/\s*\d))?"
    rf"(?:\((?P<top>-?\d[\d.]*)\)\s*/\s*\((?P<bottom>-?\d[\d.]*)\)"
    rf"|(?P<value>{_PLAIN})(?![,.]?\d)(?:\s*/\s*(?P<under>\d[\d.]*))?"
    rf"(?:\s*(?:e|[x*]\s*10\s*\^)\s*\{{?(?P<exponent>[-+]?\d{{1,3}})\}}?(?!\w)|[ -]?(?P<scale>{'|'.join(SCALES)})\b)?)"
    rf"\s*(?P<percent>%|percent\b|per cent\b)?",
    re.IGNORECASE,
)
_UNIT = re.compile(r"[ -]?([^\W\d_]+|\u00b0)")


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


@dataclass(frozen=True)
class Quantity:
    """A number that stands first, and what it counts."""

    number: Number
    unit: str
    """As written: `cm`, `$`, `men in the car`; empty for a bare number."""


def only_number(text: str) -> str | None:
    """Find the single number in the text, as `-1234.5`, `3/4` or `45%`; None for none or several.

    Of `3 + 5 = 8` the part behind the last equals sign counts; remarks in brackets behind the number do not.
    """
    found = _single(text)
    written = _written(found) if found else ""
    return written if parse_number(written) is not None else None


def unit_of(text: str) -> str:
    """The word or sign directly behind the single number, or the currency before it; empty without one."""
    found = _single(text)
    if not found:
        return ""
    behind = _UNIT.match(found.string, found.end())
    return behind[1] if behind else _currency(found)


def quantity(text: str) -> Quantity | None:
    """Read a text that begins with a number; None for another."""
    found = _NUMBER.match(in_digits(text.strip()))
    number = parse_number(_written(found)) if found else None
    if not found or number is None:
        return None
    return Quantity(number, f"{_currency(found)} {found.string[found.end() :]}".strip())


def parse_number(text: str) -> Number | None:
    """Read what `only_number` gave; None for anything else, a zero denominator or a value without end."""
    percent = text.endswith("%")
    top, _, bottom = text.removesuffix("%").partition("/")
    try:
        value = float(top) / (float(bottom) if bottom else 1.0)
    except (ValueError, ZeroDivisionError):
        return None
    return Number(value, percent) if math.isfinite(value) else None


def _single(text: str) -> re.Match[str] | None:
    text = in_digits(text[:LONGEST].rpartition("=")[2])
    found = list(_NUMBER.finditer(text))
    if len(found) > 1:
        text = re.sub(r"(?<=[\w%])\s*\([^()]*\)", "", text)
        found = list(_NUMBER.finditer(text))
    return found[0] if len(found) == 1 else None


def _currency(found: re.Match[str]) -> str:
    signs = re.search("[$\u20ac\u00a3\u00a5]", found[0])
    return signs[0] if signs else ""


def _written(found: re.Match[str]) -> str:
    sign = "-" if (found["sign"] or "").strip() == "-" else ""
    percent = "%" if found["percent"] else ""
    if found["top"]:
        return f"{sign}{found['top']}/{found['bottom']}{percent}"
    value = _decimal(found["value"])
    if found["whole"]:
        value = f"{int(found['whole']) * int(found['under'].split('.')[0] or 1) + int(found['value'])}"
    if found["exponent"] or found["scale"]:
        value += f"e{found['exponent'] or SCALES[found['scale'].lower()]}"
    return f"{sign}{value}{'/' + found['under'] if found['under'] else ''}{percent}"


def _decimal(text: str) -> str:
    """`1,234.5` and `1 234.5` lose their separators; a lone comma that is none of thousands is a decimal comma."""
    if re.fullmatch(r"\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?", text):
        return re.sub("[, ]", "", text)
    return text.replace(",", ".")
