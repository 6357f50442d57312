"""Numbers that are written out: `twenty-five`, `two hundred and five thousand`, `minus 5`.

Only what English writes in one way is read; `half a million`, `a dozen` or `5k` stay as they are.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

_SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES: Mapping[str, int] = {
    **dict(zip(("zero", "a", "an"), (0, 1, 1), strict=True)),
    **{word: value for value, word in enumerate(_SMALL, start=1)},
    **{word: value for value, word in enumerate(_TEENS, start=10)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
}
SCALES: Mapping[str, int] = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
"""Words that multiply, as powers of ten, on the short scale."""


def _any(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(words)})"


_LARGE = _any(word for word in SCALES if word != "hundred")
_UNDER_100 = rf"(?:{_any(_TENS)}(?:[ -]{_any(_SMALL)})?|{_any(_TEENS)}|{_any(_SMALL)}|zero)"
_UNDER_1000 = rf"(?:(?:{_any(_SMALL)}|an?) hundred(?: (?:and )?{_UNDER_100})?|{_UNDER_100})"
_SPELT = re.compile(
    rf"(?<!half )(?<!quarter of )\b(?:(?:{_UNDER_1000}|an?) {_LARGE}(?:,? (?:and )?{_UNDER_1000}(?: {_LARGE})?)*"
    rf"|{_UNDER_1000})\b",
    re.IGNORECASE,
)
_MINUS = re.compile(r"\b(?:minus|negative)\s+(?=[$\u20ac\u00a3\u00a5]?\.?\d)", re.IGNORECASE)


def in_digits(text: str) -> str:
    """Write numbers in words as digits: `minus two hundred and five` becomes `-205`; other words stay."""
    return _MINUS.sub("-", _SPELT.sub(_digits, text))


def _digits(spelt: re.Match[str]) -> str:
    total, group, scales = 0, 0, []
    for word in re.split(r"[ ,-]+", spelt[0].lower()):
        if word in _VALUES:
            group += _VALUES[word]
        elif word == "hundred":
            group *= 100
        elif word != "and":
            scales.append(SCALES[word])
            total, group = total + group * 10 ** SCALES[word], 0
    if any(low >= high for high, low in pairwise(scales)):
        return spelt[0]  # two numbers in a row, such as `one million two million`
    return str(total + group)
