"""From what a data set or a log states as the answer to the reference that answers are graded against."""

from collections.abc import Sequence

from dpe_ray.errors import PoolError
from dpe_ray.grading.numbers import only_number
from dpe_ray.types import Answer, AnswerKind

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_OPTIONS = len(LETTERS)


def reference(
    value: str, options: Sequence[str], *, kind: str = "", aliases: Sequence[str] = (), tolerance: float = 0.0
) -> Answer:
    """Build the answer; without a `kind` it is a choice where there are options, else a number where `value` is one.

    A choice may be stated as a letter or as the text of one option and becomes the letter. Raises PoolError, without a
    place, when value, kind, options and tolerance do not go together.
    """
    if len(options) == 1 or len(options) > MOST_OPTIONS:
        raise PoolError(f"{len(options)} options; give none or 2 to {MOST_OPTIONS}")
    if not 0.0 <= tolerance < float("inf"):
        raise PoolError(f"tolerance {tolerance} must be 0 or more")
    told = _kind(kind, value, options)
    if told is AnswerKind.CHOICE:
        value = _letter(value, options)
    if told is AnswerKind.NUMBER and only_number(value) is None:
        raise PoolError(f"answer {value!r} is no number; set kind: text")
    return Answer(told, value, tuple(aliases), tolerance)


def _kind(kind: str, value: str, options: Sequence[str]) -> AnswerKind:
    if kind:
        try:
            return AnswerKind(kind)
        except ValueError as error:
            raise PoolError(f"kind {kind!r} is none of {', '.join(AnswerKind)}") from error
    if options:
        return AnswerKind.CHOICE
    return AnswerKind.NUMBER if value == only_number(value) else AnswerKind.TEXT


def _letter(value: str, options: Sequence[str]) -> str:
    letters = LETTERS[: len(options)]
    if len(value) == 1 and value.upper() in letters:
        return value.upper()
    if options.count(value) == 1:
        return letters[options.index(value)]
    raise PoolError(f"answer {value!r} is neither one of the options nor their letter ({letters or 'none'})")
