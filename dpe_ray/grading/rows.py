"""Rows of labelled sets and of logs: what a mapping states as question, options and answer, checked.

All raise PoolError without a place; who reads the file puts file and row before it (`placed`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.grading.numbers import only_number
from dpe_ray.types import Answer, AnswerKind

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_OPTIONS = len(LETTERS)
_ESCAPE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)
_GROUPED = re.compile(r"[-+]?[$\u20ac\u00a3\u00a5]?\d{1,3}(,\d{3})+(\.\d+)?")
"""1,234 and $1,200.50"""
NEAR_KEY = 0.75
"""Share of equal letters from which a key may be another, misspelt."""


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put file and row before what a PoolError says."""
    try:
        yield
    except PoolError as error:
        raise type(error)(f"{where}: {error}") from error


def json_object(line: bytes | str) -> Mapping[str, Any]:
    """Parse one line of JSONL. Raises PoolError when it is no JSON object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PoolError(f"is no JSON ({error}); a line holds one whole object, from {{ to }}") from error
    if not isinstance(row, dict):
        raise PoolError("is no JSON object; a line holds one, from { to }")
    if _ESCAPE.search(line if isinstance(line, str) else line.decode(errors="replace")):
        _require_characters(json.dumps(row, ensure_ascii=False))
    return row


def text_of(row: Mapping[str, Any], key: str) -> str:
    """A text or number as text. Raises PoolError when it is missing, empty or something else."""
    value = row.get(key)
    if value is None or not str(value).strip():
        raise PoolError(f"{key} is missing or empty{meant(row, key)}")
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise PoolError(f"{key} must be a text or a number, not {json.dumps(value, default=str)[:40]}")
    _require_characters(text := str(value).strip())
    return text


def meant(row: Mapping[str, Any], key: str) -> str:
    """What a missing key may be called in the row, as the end of a message; empty when nothing there is near it."""
    near = [] if key in row else get_close_matches(key, map(str, row), 1, NEAR_KEY)
    return f"; the row has {near[0]!r}, rename it to {key}" if near else ""


def _require_characters(text: str) -> None:
    """JSON can write half of a character, which no file and no endpoint takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise PoolError(f"holds {half}, which is half of a character; write the text anew") from error


def list_of(row: Mapping[str, Any], key: str) -> list[Any]:
    """A list; empty when it is missing. Raises PoolError for anything else."""
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise PoolError(f"{key} must be a list")
    return value


def lettered_options(cells: Mapping[str, str]) -> list[str]:
    """The texts under A to Z, in VLMEvalKit's columns. Raises PoolError for an empty one before another."""
    options = [cells.get(letter, "") for letter in LETTERS]
    while options and options[-1] in ("", "nan"):
        options.pop()
    if "" in options:
        raise PoolError(f"option {LETTERS[options.index('')]} is empty but a later one is not")
    return options


def answer_of(row: Mapping[str, Any], options: Sequence[str]) -> Answer:
    """The answer that graded ones are compared with, from `answer`, `kind`, `aliases` and `tolerance`.

    Without a `kind` it is a choice where there are options, else a number where `answer` is one. A choice may be
    stated as a letter or as the text of one option and becomes the letter. Raises PoolError when they do not go
    together.
    """
    if len(options) == 1 or len(options) > MOST_OPTIONS:
        raise PoolError(f"{len(options)} options; give none or 2 to {MOST_OPTIONS}")
    try:
        tolerance = float(row.get("tolerance") or 0.0)
    except (TypeError, ValueError) as error:
        raise PoolError(f"tolerance is no number ({error})") from error
    if not 0.0 <= tolerance < float("inf"):
        raise PoolError(f"tolerance {tolerance} must be 0 or more")
    value = text_of(row, "answer")
    kind = _kind(str(row.get("kind") or ""), value, options)
    if kind is AnswerKind.CHOICE:
        value = _letter(value, options)
    if kind is AnswerKind.NUMBER and only_number(value) is None:
        raise PoolError(f"answer {value!r} is no number; set kind: text")
    return Answer(kind, value, tuple(str(alias) for alias in list_of(row, "aliases")), tolerance)


def _kind(kind: str, value: str, options: Sequence[str]) -> AnswerKind:
    if kind:
        try:
            return AnswerKind(kind)
        except ValueError as error:
            raise PoolError(f"kind {kind!r} is none of {', '.join(AnswerKind)}") from error
    if options:
        return AnswerKind.CHOICE
    plain = value == only_number(value) or _GROUPED.fullmatch(value)
    return AnswerKind.NUMBER if plain else AnswerKind.TEXT


def _letter(value: str, options: Sequence[str]) -> str:
    letters = LETTERS[: len(options)]
    if len(value) == 1 and value.upper() in letters:
        return value.upper()
    if options.count(value) == 1:
        return letters[options.index(value)]
    raise PoolError(f"answer {value!r} is neither one of the options nor their letter ({letters or 'none'})")
