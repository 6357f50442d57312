"""Options in another order, so that no letter is right more often than others.

A student prefers letters, and the pass-rate band keeps the items whose right letter it half likes: trained on as they
are, those items would teach it to avoid the other letters.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from dpe_ray.types import AnswerKind, Sample

_TIED = re.compile(r"\b(above|below|both|neither|all of|none of|options?)\b|\b[A-Z] (and|or) [A-Z]\b", re.IGNORECASE)


def spread_answers(samples: Sequence[Sample]) -> list[Sample]:
    """Rotate the options of choice questions so that A, B, C, ... are right in turn; other samples stay as they are.

    So do questions whose options speak of each other ("all of the above", "both A and C"): order is their meaning.
    """
    turn = count()
    return [rotated(s, next(turn)) if _can_turn(s) else s for s in samples]


def rotated(sample: Sample, place: int) -> Sample:
    """Rotate the options until the right one stands at `place` (modulo their number); its letter becomes the answer."""
    place %= len(sample.options)
    shift = sample.letters.index(sample.answer.value) - place
    options = sample.options[shift:] + sample.options[:shift]
    return replace(sample, options=options, answer=replace(sample.answer, value=sample.letters[place]))


def _can_turn(sample: Sample) -> bool:
    is_choice = sample.answer.kind is AnswerKind.CHOICE and bool(sample.options)
    return is_choice and not any(_TIED.search(option) for option in sample.options)
