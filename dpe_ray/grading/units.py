"""Units of measurement by their symbols and names, so that `3 m` is told from `3 cm` and known as three metres."""

import re

_UNITS = {
    "mm": "millimetre millimeter",
    "cm": "centimetre centimeter",
    "m": "metre meter",
    "km": "kilometre kilometer",
    "inch": "inches",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "mg": "milligram",
    "g": "gram",
    "kg": "kilo kilogram",
    "t": "ton tonne",
    "oz": "ounce",
    "lb": "lbs pound",
    "ml": "millilitre milliliter",
    "l": "litre liter",
    "ms": "millisecond",
    "s": "sec second",
    "min": "mins minute",
    "h": "hr hrs hour",
    "day": "",
    "week": "",
    "month": "",
    "year": "yr yrs old",
    "decade": "",
    "k": "",
    "mn": "",
    "bn": "",
}
"""Symbol: further names, plurals by s are known. Not `in`, which stands behind more numbers as the preposition."""
_SYMBOLS = {
    form: symbol
    for symbol, names in _UNITS.items()
    for name in (symbol, *names.split())
    for form in ((name, f"{name}s") if len(name) > 2 else (name,))
}


def measure(unit: str) -> str:
    """The symbol of a unit of measurement, by which equal numbers may differ; empty for things that are counted."""
    return _SYMBOLS.get(unit.casefold(), "")


def spoken_of(word: str, text: str) -> bool:
    """Whether the text has the word or sign, in either number; a unit of measurement in any of its forms."""
    words = [_singular(found) for found in re.findall(r"[^\W\d_]+|[^\w\s]", text.casefold())]
    unit = measure(word)
    return _singular(word.casefold()) in words or (unit != "" and unit in map(measure, words))


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) > 3 else word
