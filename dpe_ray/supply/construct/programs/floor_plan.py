"""Floor plans: areas, sizes and doors of rooms. Checked by measuring walls against the scale bar and finding doors."""

import re
from itertools import pairwise
from random import Random
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, COLOURS, blank, write
from dpe_ray.supply.construct.labels import Label, distinct
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid, scaled
from dpe_ray.supply.construct.task import Shown, Task
from dpe_ray.supply.construct.words import ROOMS
from dpe_ray.types import AnswerKind

METRE, EDGE, HALF_WALL, HALF_DOOR = 46, 64, 3, 15
"""Pixels: one metre, around the plan, half a wall's thickness, half a door's width."""
WALL, DOOR, SCALE = (40, 40, 45), COLOURS["orange"], COLOURS["blue"]
BAR = 2
"""Metres of the scale bar."""

Span = Annotated[int, Field(ge=2, le=6)]


class FloorPlanParams(Params):
    """Rooms in a grid of 1-4 columns and 1-3 rows."""

    ask: Literal["room_area", "largest_room", "count_doors", "total_area"]
    widths: Annotated[tuple[Span, ...], Field(min_length=1, max_length=4)]
    """Of the columns from left to right, in metres."""
    depths: Annotated[tuple[Span, ...], Field(min_length=1, max_length=3)]
    """Of the rows from top to bottom, in metres."""
    rooms: Annotated[tuple[Label, ...], Field(min_length=2, max_length=12)]
    """Names, row by row from the top left: as many as columns x rows."""
    doors: Annotated[
        tuple[tuple[Annotated[int, Field(ge=0, le=11)], Annotated[int, Field(ge=0, le=11)]], ...], Field(max_length=17)
    ] = ()
    """Pairs of rooms side by side, by place in `rooms` from 0, that share a door."""
    room: Annotated[int, Field(ge=0, le=11)] = 0
    """Room that is asked about."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        count = len(self.widths) * len(self.depths)
        if len(self.rooms) != count or self.room >= count:
            raise ValueError(f"{len(self.widths)} columns and {len(self.depths)} rows need {count} rooms")
        distinct(self.rooms)
        if len({frozenset(door) for door in self.doors}) < len(self.doors):
            raise ValueError("two rooms share two doors")
        for one, other in map(sorted, self.doors):
            beside = other == one + 1 and other % len(self.widths)
            if not (beside or other == one + len(self.widths)) or other >= count:
                raise ValueError(f"rooms {one} and {other} do not lie side by side")
        areas = sorted(_area(self, room) for room in range(count))
        if self.ask == "largest_room" and areas[-1] == areas[-2]:
            raise ValueError("two rooms are equally large")
        return self


class FloorPlan(Program[FloorPlanParams]):
    """Rooms, doors, measures along two sides and a scale bar."""

    name = "floor_plan"
    summary = "A floor plan with named rooms, orange doors, measures along two sides and a scale bar."
    categories = ("architectural",)
    params = FloorPlanParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> FloorPlanParams:
        """As `Program.sample`: more rooms are harder."""

        def attempt() -> FloorPlanParams:
            columns, rows = scaled(2, 4, difficulty), scaled(1, 3, difficulty)
            count = columns * rows
            walls = [(room, room + 1) for room in range(count) if (room + 1) % columns]
            walls += [(room, room + columns) for room in range(count - columns)]
            return FloorPlanParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                widths=tuple(rng.randint(2, 6) for _ in range(columns)),
                depths=tuple(rng.randint(2, 5) for _ in range(rows)),
                rooms=tuple(rng.sample(ROOMS, count)),
                doors=tuple(rng.sample(walls, rng.randint(1, len(walls)))),
                room=rng.randrange(count),
            )

        return first_valid(attempt)

    def make(self, params: FloorPlanParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params)
        name, areas = params.rooms[params.room], [_area(params, room) for room in range(len(params.rooms))]
        if params.ask == "largest_room":
            best = params.rooms[areas.index(max(areas))]
            why = ", ".join(f"{n} {area}" for n, area in zip(params.rooms, areas, strict=True)) + " square metres."
            others = [room for room in params.rooms if room != best]
            rng.shuffle(others)
            return Task(picture, "Which room has the largest area?", best, AnswerKind.TEXT, why, tuple(others))
        if params.ask == "count_doors":
            answer = sum(params.room in door for door in params.doors)
            question, why = f'How many doors does the room "{name}" have?', f"{answer} orange gaps lie in its walls."
            return _number(picture, question, answer, why, near(answer, rng, slips=[len(params.doors)]))
        if params.ask == "total_area":
            answer = sum(areas)
            question = "How many square metres do all rooms have together?"
            why = f"{sum(params.widths)} x {sum(params.depths)} = {answer}."
            return _number(picture, question, answer, why, near(answer, rng, params.widths[0], 1, [areas[0]]))
        width, depth = params.widths[params.room % len(params.widths)], params.depths[params.room // len(params.widths)]
        question = f'How many square metres does the room "{name}" have?'
        why, slips = f"{width} x {depth} = {width * depth}.", [width + depth, 2 * (width + depth), *areas]
        return _number(picture, question, width * depth, why, near(width * depth, rng, width, 1, slips))

    def check(self, params: FloorPlanParams, shown: Shown) -> str:
        """As `Program.check`."""
        xs, ys = _walls(shown.pixels)
        bar = measure.only(measure.blobs(measure.where(shown.pixels, SCALE)), "the scale bar")
        metre = (bar.right - bar.left) / BAR
        sides = [[measure.whole((b - a) / metre, "a wall") for a, b in pairwise(at)] for at in (xs, ys)]
        size = dict(zip(params.rooms, (width * depth for depth in sides[1] for width in sides[0]), strict=True))
        named = re.findall(r'"([^"]+)"', shown.question)
        if shown.question.startswith("Which room"):
            return max(size, key=lambda room: size[room])
        if "together" in shown.question:
            return str(sum(size.values()))
        if "doors" not in shown.question:
            return str(size[named[0]])
        row, column = divmod(params.rooms.index(named[0]), len(sides[0]))
        doors = measure.blobs(measure.where(shown.pixels, DOOR))
        near_x, near_y = (xs[column] - 8, xs[column + 1] + 8), (ys[row] - 8, ys[row + 1] + 8)
        return str(sum(near_x[0] < d.x < near_x[1] and near_y[0] < d.y < near_y[1] for d in doors))


def _area(params: FloorPlanParams, room: int) -> int:
    row, column = divmod(room, len(params.widths))
    return params.widths[column] * params.depths[row]


def _number(picture: Image.Image, question: str, answer: int, why: str, wrong: tuple[str, ...]) -> Task:
    return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong)


def _edges(spans: tuple[int, ...]) -> list[int]:
    return [EDGE + METRE * sum(spans[:at]) for at in range(len(spans) + 1)]


def _walls(pixels: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """Columns and rows of the walls' middles; doors belong to them."""
    solid = measure.where(pixels, WALL) | measure.where(pixels, DOOR)
    box_y, box_x = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
    plan = solid[box_y[0] : box_y[-1] + 1, box_x[0] : box_x[-1] + 1]
    return (
        [int(box_x[0]) + at for at in measure.lines(plan, 0, 0.9)],
        [int(box_y[0]) + at for at in measure.lines(plan, 1, 0.9)],
    )


def _draw(params: FloorPlanParams) -> Image.Image:
    xs, ys = _edges(params.widths), _edges(params.depths)
    picture, draw = blank(xs[-1] + EDGE // 2, ys[-1] + EDGE)
    for x in xs:
        draw.rectangle((x - HALF_WALL, ys[0] - HALF_WALL, x + HALF_WALL, ys[-1] + HALF_WALL), WALL)
    for y in ys:
        draw.rectangle((xs[0] - HALF_WALL, y - HALF_WALL, xs[-1] + HALF_WALL, y + HALF_WALL), WALL)
    columns = len(params.widths)
    for one, other in map(sorted, params.doors):
        row, column = divmod(one, columns)
        if other == one + 1:
            x, y = xs[column + 1], (ys[row] + ys[row + 1]) // 2
            draw.rectangle((x - HALF_WALL, y - HALF_DOOR, x + HALF_WALL, y + HALF_DOOR), DOOR)
        else:
            x, y = (xs[column] + xs[column + 1]) // 2, ys[row + 1]
            draw.rectangle((x - HALF_DOOR, y - HALF_WALL, x + HALF_DOOR, y + HALF_WALL), DOOR)
    for at, name in enumerate(params.rooms):
        row, column = divmod(at, columns)
        middle = (xs[column] + xs[column + 1]) / 2, (ys[row] + ys[row + 1]) / 2
        write(draw, middle, name, 17, params.widths[column] * METRE - 14)
    for at, width in enumerate(params.widths):
        write(draw, ((xs[at] + xs[at + 1]) / 2, EDGE - 24), f"{width} m", 15)
    for at, depth in enumerate(params.depths):
        write(draw, (EDGE - 32, (ys[at] + ys[at + 1]) / 2), f"{depth} m", 15)
    foot = ys[-1] + 28
    draw.rectangle((xs[0], foot, xs[0] + BAR * METRE, foot + 3), SCALE)
    write(draw, (xs[0] + BAR * METRE / 2, foot + 16), f"{BAR} m", 14, fill=BLACK)
    return picture
