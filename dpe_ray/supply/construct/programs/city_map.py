"""Street maps: directions, walking distances, the nearest place. Checked by measuring streets and markers."""

import re
from random import Random
from typing import Annotated, Literal, Self

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, COLOURS, blank, write
from dpe_ray.supply.construct.labels import Label, distinct
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid, scaled
from dpe_ray.supply.construct.task import Shown, Task
from dpe_ray.supply.construct.words import PLACES
from dpe_ray.types import AnswerKind

BLOCK, EDGE, STREET, MARKER = 104, 70, 5, 9
"""Pixels: between streets, around the map, half a street's width, radius of a marker."""
GROUND, ROAD = (232, 240, 226), (200, 200, 205)
MARKERS = tuple(COLOURS)
WINDS = {
    (0, -1): "north", (1, -1): "north-east", (1, 0): "east", (1, 1): "south-east",
    (0, 1): "south", (-1, 1): "south-west", (-1, 0): "west", (-1, -1): "north-west",
}  # fmt: skip
"""By signs of steps to the right and downwards."""

Street = Annotated[int, Field(ge=0, le=6)]


class Landmark(BaseModel):
    """A place on a street corner."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Label
    x: Street
    """Street from the west, from 0."""
    y: Street
    """Street from the north, from 0."""


class CityMapParams(Params):
    """A grid of streets with 3-8 landmarks; north is up."""

    ask: Literal["direction", "walking_distance", "nearest_place"]
    streets: Annotated[int, Field(ge=3, le=7)]
    """Streets in each direction."""
    landmarks: Annotated[tuple[Landmark, ...], Field(min_length=3, max_length=8)]
    metres: Literal[50, 100, 150, 200, 250]
    """Length of a block."""
    start: Annotated[int, Field(ge=0, le=7)] = 0
    """Landmark that is asked about, from 0."""
    end: Annotated[int, Field(ge=0, le=7)] = 1

    @model_validator(mode="after")
    def _settled(self) -> Self:
        distinct(mark.name for mark in self.landmarks)
        if len({(mark.x, mark.y) for mark in self.landmarks}) < len(self.landmarks):
            raise ValueError("two landmarks stand on the same corner")
        if max(max(mark.x, mark.y) for mark in self.landmarks) >= self.streets:
            raise ValueError("a landmark lies off the map")
        if max(self.start, self.end) >= len(self.landmarks) or self.start == self.end:
            raise ValueError("start and end must be two of the landmarks")
        dx, dy = _offset(self, self.start, self.end)
        if self.ask == "direction" and 0 not in (dx, dy) and abs(dx) != abs(dy):
            raise ValueError("the direction is none of the eight winds exactly")
        ways = sorted(_walks(self))
        if self.ask == "nearest_place" and ways[0] == ways[1]:
            raise ValueError("two places are equally near")
        return self


class CityMap(Program[CityMapParams]):
    """Streets, landmarks, a scale and an arrow to the north."""

    name = "city_map"
    summary = "A map with a grid of streets, landmarks on corners, a scale and a north arrow."
    categories = ("map",)
    params = CityMapParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> CityMapParams:
        """As `Program.sample`: more streets and landmarks are harder."""
        streets, count = scaled(3, 7, difficulty), scaled(3, 8, difficulty)

        def attempt() -> CityMapParams:
            corners = rng.sample([(x, y) for x in range(streets) for y in range(streets)], count)
            start, end = rng.sample(range(count), 2)
            return CityMapParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                streets=streets,
                landmarks=tuple(
                    Landmark(name=n, x=x, y=y) for n, (x, y) in zip(rng.sample(PLACES, count), corners, strict=True)
                ),
                metres=rng.choice((50, 100, 150, 200, 250)),
                start=start,
                end=end,
            )

        return first_valid(attempt)

    def make(self, params: CityMapParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params)
        start, end = params.landmarks[params.start].name, params.landmarks[params.end].name
        dx, dy = _offset(params, params.start, params.end)
        if params.ask == "direction":
            wind = WINDS[(dx > 0) - (dx < 0), (dy > 0) - (dy < 0)]
            question = f'In which compass direction does "{end}" lie, seen from "{start}"?'
            across, down = "east" if dx > 0 else "west", "south" if dy > 0 else "north"
            why = f'From "{start}" go {abs(dx)} blocks {across} and {abs(dy)} {down}.'
            wrong = [w for w in WINDS.values() if w != wind]
            rng.shuffle(wrong)
            return Task(
                picture,
                question,
                wind,
                AnswerKind.TEXT,
                why,
                tuple(wrong),
                (wind.replace("-", ""), wind.replace("-", " ")),
            )
        if params.ask == "walking_distance":
            answer = (abs(dx) + abs(dy)) * params.metres
            question = f'Along the streets, how many metres is the shortest walk from "{start}" to "{end}"?'
            why = f"{abs(dx)} + {abs(dy)} blocks of {params.metres} m make {answer}."
            return Task(
                picture, question, str(answer), AnswerKind.NUMBER, why, near(answer, rng, params.metres, params.metres)
            )
        ways = _walks(params)
        others = sorted((way, mark.name) for way, mark in zip(ways, _others(params), strict=True))
        question = f'Along the streets, which place is nearest to "{start}"?'
        why = ", ".join(f"{name}: {way} blocks" for way, name in others) + "."
        return Task(picture, question, others[0][1], AnswerKind.TEXT, why, tuple(name for _, name in others[1:]))

    def check(self, params: CityMapParams, shown: Shown) -> str:
        """As `Program.check`: markers by colour, blocks by the distance between the middles of streets."""
        ground = ~measure.where(shown.pixels, GROUND)
        ys = measure.lines(ground[EDGE // 2 : -EDGE], 1, 0.75)
        block = (ys[-1] - ys[0]) / (len(ys) - 1)
        place = {}
        for mark, colour in zip(params.landmarks, MARKERS, strict=False):
            dot = measure.only(measure.blobs(measure.where(shown.pixels, COLOURS[colour]), 100), colour)
            place[mark.name] = (dot.x / block, dot.y / block)
        named = re.findall(r'"([^"]+)"', shown.question)
        home = place[named[-1] if shown.question.startswith("In which") else named[0]]
        steps = {
            n: (measure.whole(x - home[0], "a way"), measure.whole(y - home[1], "a way")) for n, (x, y) in place.items()
        }
        if shown.question.startswith("In which"):
            dx, dy = steps[named[0]]
            return (
                ("south" if dy > 0 else "north" if dy else "")
                + "-" * bool(dx and dy)
                + ("east" if dx > 0 else "west" if dx else "")
            )
        walk = {name: abs(dx) + abs(dy) for name, (dx, dy) in steps.items()}
        if "metres" in shown.question:
            return str(walk[named[1]] * params.metres)
        return min((name for name in walk if name != named[0]), key=lambda name: walk[name])


def _offset(params: CityMapParams, start: int, end: int) -> tuple[int, int]:
    one, other = params.landmarks[start], params.landmarks[end]
    return other.x - one.x, other.y - one.y


def _others(params: CityMapParams) -> list[Landmark]:
    return [mark for at, mark in enumerate(params.landmarks) if at != params.start]


def _walks(params: CityMapParams) -> list[int]:
    """Blocks from the start to each other landmark."""
    ends = [at for at in range(len(params.landmarks)) if at != params.start]
    return [sum(map(abs, _offset(params, params.start, end))) for end in ends]


def _draw(params: CityMapParams) -> Image.Image:
    span = (params.streets - 1) * BLOCK
    side = span + 2 * EDGE
    picture, draw = blank(side, side + 30, GROUND)
    for at in range(params.streets):
        middle = EDGE + at * BLOCK
        draw.rectangle((0, middle - STREET, side, middle + STREET), ROAD)
        draw.rectangle((middle - STREET, 0, middle + STREET, side - 1), ROAD)
    for mark, colour in zip(params.landmarks, MARKERS, strict=False):
        x, y = EDGE + mark.x * BLOCK, EDGE + mark.y * BLOCK
        draw.ellipse((x - MARKER, y - MARKER, x + MARKER, y + MARKER), COLOURS[colour])
        write(draw, (x, y + MARKER + 11), mark.name, 14, BLOCK - 8)
    draw.line((EDGE, side + 8, EDGE + BLOCK, side + 8), BLACK, 3)
    write(draw, (EDGE + BLOCK / 2, side + 20), f"{params.metres} m", 14)
    draw.polygon([(side - 30, 8), (side - 38, 28), (side - 22, 28)], BLACK)
    write(draw, (side - 30, 38), "N", 15)
    return picture
