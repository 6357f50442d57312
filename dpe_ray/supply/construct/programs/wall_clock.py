"""Clocks with hands: the time, and how long until another. Checked by the directions of the hands."""

import math
import re
from random import Random
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, COLOURS, Colour, blank, write
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program
from dpe_ray.supply.construct.task import Shown, Task, Unsettled
from dpe_ray.types import AnswerKind

SIDE, FACE = 480, 210
"""Of the picture; radius of the face. Pixels."""
HANDS: dict[str, tuple[Colour, int, int]] = {"hour": ((30, 30, 110), 110, 11), "minute": ((150, 20, 60), 172, 5)}
"""Colour, length and width in pixels."""
DAY = 12 * 60


class WallClockParams(Params):
    """A time on a twelve-hour face."""

    ask: Literal["read_time", "time_after", "minutes_until"]
    hour: Annotated[int, Field(ge=1, le=12)]
    minute: Annotated[int, Field(ge=0, le=59)]
    minutes: Annotated[int, Field(ge=1, le=600)] = 30
    """Minutes that pass."""
    numerals: Literal["all", "quarters", "none"] = "all"
    face: Literal["white", "yellow", "pink"] = "white"


class WallClock(Program[WallClockParams]):
    """A wall clock with two hands."""

    name = "wall_clock"
    summary = "A wall clock with an hour hand and a minute hand."
    categories = ("everyday_object",)
    params = WallClockParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> WallClockParams:
        """As `Program.sample`: odd minutes and a bare face are harder."""
        step = 15 if difficulty < 0.25 else 5 if difficulty < 0.6 else 1
        return WallClockParams(
            ask=ask,
            form=rng.choice(("choice", "open")),
            hour=rng.randint(1, 12),
            minute=rng.randrange(0, 60, step),
            minutes=rng.randrange(step, 60 + round(400 * difficulty), step),
            numerals="all" if difficulty < 0.4 else rng.choice(("all", "quarters", "none")),
            face=rng.choice(("white", "yellow", "pink")),
        )

    def make(self, params: WallClockParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params)
        now = params.hour % 12 * 60 + params.minute
        shown = _told(now)
        later = (now + params.minutes) % DAY
        if params.ask == "minutes_until":
            question = f"How many minutes pass from the time shown until the clock next shows {_told(later)}?"
            why = f"The clock shows {shown}; {params.minutes} minutes later it is {_told(later)}."
            if params.minutes % 60 == 0:
                why += " The minute hand comes back to its place."
            return Task(picture, question, str(params.minutes), AnswerKind.NUMBER, why, near(params.minutes, rng, 5, 1))
        if params.ask == "time_after":
            question = f"What time does the clock show {params.minutes} minutes later?"
            why = f"The clock shows {shown}; {params.minutes} minutes later it shows {_told(later)}."
            return _time(picture, question, later, why, rng)
        turned = params.minute // 5 * 60 + params.hour % 12 * 5
        why = f"The short hand is at or past {params.hour}, the long hand at minute {params.minute}."
        return _time(picture, "What time does the clock show?", now, why, rng, turned)

    def check(self, params: WallClockParams, shown: Shown) -> str:
        """As `Program.check`."""
        angles = {name: _angle(measure.where(shown.pixels, colour)) for name, (colour, *_) in HANDS.items()}
        minute = measure.whole(angles["minute"] / 6, "the minute hand", 0.35) % 60
        hour = measure.whole((angles["hour"] - minute / 2) / 30, "the hour hand", 0.1) % 12
        now = hour * 60 + minute
        if until := re.search(r"next shows (\d+):(\d+)", shown.question):
            return str((int(until[1]) * 60 + int(until[2]) - now) % DAY)
        if after := re.search(r"(\d+) minutes later", shown.question):
            now += int(after[1])
        hours, minutes = divmod(now, 60)
        return f"{(hours - 1) % 12 + 1}:{minutes:02d}"


def _told(minutes: int) -> str:
    return f"{minutes % DAY // 60 or 12}:{minutes % 60:02d}"


def _time(picture: Image.Image, question: str, answer: int, why: str, rng: Random, *slips: int) -> Task:
    shifts = [60, -60, 5, -5, 30, 10]
    rng.shuffle(shifts)
    wrong = tuple(_told(other) for other in (*slips, *(answer + shift for shift in shifts)))
    return Task(picture, question, _told(answer), AnswerKind.TEXT, why, wrong, (_told(answer).rjust(5, "0"),))


def _draw(params: WallClockParams) -> Image.Image:
    grounds = {"white": (255, 255, 255), "yellow": (255, 250, 225), "pink": (255, 236, 240)}
    large, pen = blank(2 * SIDE, 2 * SIDE, (225, 228, 232))
    pen.ellipse([2 * (SIDE / 2 + sign * FACE) for sign in (-1, -1, 1, 1)], grounds[params.face], COLOURS["brown"], 12)
    for at in range(60):
        inner = FACE - (24 if at % 5 == 0 else 14)
        pen.line([tuple(2 * v for v in _at(6 * at, far)) for far in (inner, FACE - 8)], BLACK, 6 if at % 5 == 0 else 2)
    picture = large.resize((SIDE, SIDE), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    every = {"all": 1, "quarters": 3, "none": 13}[params.numerals]
    for number in range(every, 13, every):
        write(draw, _at(30 * number, FACE - 42), str(number), 24)
    angles = {"hour": 30 * (params.hour % 12) + params.minute / 2, "minute": 6 * params.minute}
    for name, (colour, length, width) in HANDS.items():
        draw.line([_at(angles[name], 0), _at(angles[name], length)], colour, width)
    return picture


def _at(degrees: float, far: float) -> tuple[float, float]:
    """A point so many pixels from the middle, clockwise from twelve."""
    turn = math.radians(degrees)
    return SIDE / 2 + far * math.sin(turn), SIDE / 2 - far * math.cos(turn)


def _angle(hand: measure.Mask) -> float:
    """Degrees clockwise from twelve: from the middle of the face to the middle of the hand's pixels."""
    ys, xs = np.nonzero(hand)
    if len(xs) < 50:
        raise Unsettled("a hand is hidden")
    return math.degrees(math.atan2(xs.mean() - SIDE / 2, SIDE / 2 - ys.mean())) % 360
