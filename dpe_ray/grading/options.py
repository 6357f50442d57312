"""Options in another order, so that no letter is right more often than others.

A student prefers letters, and the pass-rate band keeps the items whose right letter it half likes: trained on as they
are, those items would teach it to avoid the other letters.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from dpe_ray.types import AnswerKind, Sample


def spread_answers(samples: Sequence[Sample]) -> list[Sample]:
    """Rotate the options of choice questions so that A, B, C, ... are right in turn; other samples stay as they are."""
    turn = count()
    return [rotated(s, next(turn)) if s.answer.kind is AnswerKind.CHOICE and s.options else s for s in samples]


def rotated(sample: Sample, place: int) -> Sample:
    """Rotate the options until the right one stands at `place` (modulo their number); its letter becomes the answer."""
    place %= len(sample.options)
    shift = sample.letters.index(sample.answer.value) - place
    options = sample.options[shift:] + sample.options[:shift]
    return replace(sample, options=options, answer=replace(sample.answer, value=sample.letters[place]))
