"""Drawn ECG strips: heart rate, beats, regularity. Checked by finding the peaks of the trace on the paper's squares.

The trace is a schema, no patient's: at 25 mm/s a small square is 0.04 s, so the rate is 1500 / squares between peaks.
"""

from itertools import pairwise
from random import Random
from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, Point, blank, write
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid
from dpe_ray.supply.construct.task import Shown, Task
from dpe_ray.types import AnswerKind

SQUARE, SQUARES, HIGH, EDGE = 7, 125, 40, 16
"""Pixels of a small square; squares across and up; pixels around the paper."""
PAPER, FINE, BOLD, TRACE = (255, 246, 244), (250, 214, 210), (236, 150, 145), (20, 30, 60)
PER_MINUTE = 1500
"""Small squares of paper that pass in a minute."""
BEAT = ((-5.0, 0.0), (-3.5, 2.0), (-2.0, 0.0), (-0.8, 0.0), (-0.4, -1.5), (0.0, 14.0), (0.5, -3.0), (1.0, 0.0),
        (2.5, 0.0), (4.5, 3.5), (6.0, 0.0))  # fmt: skip
"""(squares from the peak, squares up): P, QRS and T as straight lines."""

Gap = Annotated[int, Field(ge=12, le=40)]


class EcgStripParams(Params):
    """Beats by the distances between their peaks, in small squares."""

    ask: Literal["heart_rate", "count_beats", "rhythm_regularity", "longest_pause"]
    gaps: Annotated[tuple[Gap, ...], Field(min_length=2, max_length=9)]
    """From peak to peak; 112 squares in all at the most. heart_rate needs equal ones that divide 1500."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if sum(self.gaps) > SQUARES - 13:
            raise ValueError(f"more than {SQUARES - 13} squares")
        spread = max(self.gaps) - min(self.gaps)
        if self.ask == "heart_rate" and (spread or PER_MINUTE % self.gaps[0]):
            raise ValueError("the rate of unequal gaps, or of one that does not divide 1500, is no whole number")
        if self.ask == "rhythm_regularity" and 0 < spread < 4:
            raise ValueError("gaps that differ by less than 4 squares are neither regular nor irregular")
        longest = sorted(self.gaps)[-2:]
        if self.ask == "longest_pause" and longest[1] - longest[0] < 3:
            raise ValueError("the longest pause is less than 3 squares longer than another")
        return self


class EcgStrip(Program[EcgStripParams]):
    """One lead on squared paper."""

    name = "ecg_strip"
    summary = "A schematic single-lead ECG strip on squared paper at 25 mm/s."
    categories = ("medical",)
    params = EcgStripParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> EcgStripParams:
        """As `Program.sample`: rates that do not fit large squares, and many beats, are harder."""
        regular = ask == "heart_rate" or (ask != "longest_pause" and rng.random() < 0.5)

        def attempt() -> EcgStripParams:
            if regular:
                gap = rng.choice((15, 20, 25, 30) if difficulty < 0.5 else (12, 15, 20, 25, 30))
                gaps = [gap] * rng.randint(2, (SQUARES - 13) // gap)
            else:
                gaps = [rng.randint(12, 40) for _ in range(rng.randint(2, 3 + round(4 * difficulty)))]
            return EcgStripParams(ask=ask, form=rng.choice(("choice", "open")), gaps=tuple(gaps))

        return first_valid(attempt)

    def make(self, params: EcgStripParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params, rng)
        gap, beats = params.gaps[0], len(params.gaps) + 1
        if params.ask == "rhythm_regularity":
            regular = len(set(params.gaps)) == 1
            answer, other = ("regular", "irregular") if regular else ("irregular", "regular")
            why = f"The distances between peaks are {', '.join(map(str, params.gaps))} small squares."
            return Task(picture, "What is the rhythm of this strip like?", answer, AnswerKind.TEXT, why, (other,))
        if params.ask == "heart_rate":
            question = "At 25 mm/s (one small square is 0.04 s), what is the heart rate in beats per minute?"
            rate = PER_MINUTE // gap
            why, slips = (
                f"{PER_MINUTE} / {gap} small squares = {rate}.",
                [300 // max(1, gap // 5 + 1), 2 * rate, rate + 25],
            )
            return _number(picture, question, rate, why, near(rate, rng, 10, 20, slips))
        if params.ask == "count_beats":
            why = f"The trace has {beats} high peaks."
            return _number(
                picture, "How many heart beats (high peaks) does the strip show?", beats, why, near(beats, rng)
            )
        longest = params.gaps.index(max(params.gaps)) + 1
        question = "After which beat, counted from the left, comes the longest pause until the next?"
        why = f"The pauses are {', '.join(map(str, params.gaps))} small squares long."
        return _number(picture, question, longest, why, near(longest, rng, 1, 1))

    def check(self, params: EcgStripParams, shown: Shown) -> str:
        """As `Program.check`."""
        ink = measure.where(shown.pixels, TRACE)
        top = np.flatnonzero(ink.any(axis=1))[0]
        peaks = [blob.x for blob in measure.blobs(ink[top : top + 3 * SQUARE], 4)]
        bold = measure.lines(measure.where(shown.pixels, BOLD), 0, 0.5)
        square = (bold[-1] - bold[0]) / (len(bold) - 1) / 5
        gaps = [measure.whole((b - a) / square, "a gap", 0.35) for a, b in pairwise(peaks)]
        if "rhythm" in shown.question:
            return "regular" if max(gaps) - min(gaps) < 2 else "irregular"
        if "heart rate" in shown.question:
            return str(round(60 / (float(np.mean(gaps)) * 0.04)))
        return str(len(peaks) if "How many" in shown.question else int(np.argmax(gaps)) + 1)


def _number(picture: Image.Image, question: str, answer: int, why: str, wrong: tuple[str, ...]) -> Task:
    return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong)


def _draw(params: EcgStripParams, rng: Random) -> Image.Image:
    width, height = SQUARES * SQUARE, HIGH * SQUARE
    picture, draw = blank(width + 2 * EDGE, height + 2 * EDGE + 20)
    draw.rectangle((EDGE, EDGE, EDGE + width, EDGE + height), PAPER)
    for colour, stride in ((FINE, 1), (BOLD, 5)):
        for at in range(0, SQUARES + 1, stride):
            draw.line((EDGE + at * SQUARE, EDGE, EDGE + at * SQUARE, EDGE + height), colour)
        for at in range(0, HIGH + 1, stride):
            draw.line((EDGE, EDGE + at * SQUARE, EDGE + width, EDGE + at * SQUARE), colour)
    _trace(draw, params, rng.randint(6, SQUARES - 7 - sum(params.gaps)), rng.randint(20, 28))
    write(draw, (EDGE + 34, EDGE + height + 12), "25 mm/s", 14, fill=BLACK)
    return picture


def _trace(draw: ImageDraw.ImageDraw, params: EcgStripParams, first: int, base: int) -> None:
    peaks = [first + sum(params.gaps[:at]) for at in range(len(params.gaps) + 1)]
    points: list[Point] = [(0, 0), *((peak + x, y) for peak in peaks for x, y in BEAT), (SQUARES, 0)]
    places = [(EDGE + round(x * SQUARE), EDGE + round((base - y) * SQUARE)) for x, y in points]
    draw.line(places, TRACE, 2, "curve")
