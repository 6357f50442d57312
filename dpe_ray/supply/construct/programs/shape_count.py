"""Coloured shapes strewn over a page, to be counted. Checked by the pieces, and how much of its box each fills."""

import re
from random import Random
from typing import Annotated, Literal, Self

from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import COLOURS, blank
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid, scaled
from dpe_ray.supply.construct.task import Shown, Task, Unsettled
from dpe_ray.types import AnswerKind

PLACE, SPAN = 84, 6
"""Pixels of a place for one shape; places per side."""
FILLS = {"square": 1.0, "circle": 0.785, "triangle": 0.5}
"""Share of its bounding box that a shape fills."""

Shape = Literal["circle", "square", "triangle"]
Colour = Literal["red", "blue", "green", "orange", "purple", "brown"]


class Group(BaseModel):
    """Equal shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    shape: Shape
    colour: Colour
    count: Annotated[int, Field(ge=1, le=12)]


class ShapeCountParams(Params):
    """1-8 groups of shapes, 36 shapes at the most."""

    ask: Literal["count_shapes", "count_colour", "count_coloured_shapes", "compare_counts"]
    groups: Annotated[tuple[Group, ...], Field(min_length=1, max_length=8)]
    shape: Shape
    """Shape that is asked for."""
    colour: Colour
    """Colour that is asked for."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if sum(group.count for group in self.groups) > SPAN * SPAN:
            raise ValueError(f"more than {SPAN * SPAN} shapes")
        counts = sorted(_by_shape(self).values(), reverse=True)
        if self.ask == "compare_counts" and (len(counts) < 2 or counts[0] == counts[1]):
            raise ValueError("no one shape is the most frequent of two or more")
        return self


class ShapeCount(Program[ShapeCountParams]):
    """Shapes that do not touch."""

    name = "shape_count"
    summary = "Circles, squares and triangles of several colours strewn over a page without overlap."
    categories = ("geometric",)
    params = ShapeCountParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> ShapeCountParams:
        """As `Program.sample`: more groups with more shapes are harder."""

        def attempt() -> ShapeCountParams:
            kinds = [(shape, colour) for shape in FILLS for colour in ("red", "blue", "green", "orange", "purple")]
            chosen = rng.sample(kinds, scaled(2, 8, difficulty))
            groups = [Group(shape=s, colour=c, count=rng.randint(1, 4)) for s, c in chosen]
            asked = rng.choice(groups)
            return ShapeCountParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                groups=tuple(groups),
                shape=asked.shape,
                colour=rng.choice(groups).colour,
            )

        return first_valid(attempt)

    def make(self, params: ShapeCountParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params, rng)
        if params.ask == "compare_counts":
            counts = _by_shape(params)
            most = max(counts, key=lambda shape: counts[shape])
            why = ", ".join(f"{n} {shape}s" for shape, n in counts.items()) + "."
            question = "Which kind of shape occurs most often?"
            return Task(
                picture, question, most, AnswerKind.TEXT, why, tuple(s for s in FILLS if s != most), (f"{most}s",)
            )
        shape = "" if params.ask == "count_colour" else params.shape
        colour = "" if params.ask == "count_shapes" else params.colour
        fitting = [g for g in params.groups if shape in ("", g.shape) and colour in ("", g.colour)]
        answer = sum(group.count for group in fitting)
        question = f"How many {colour}{' ' * bool(colour)}{shape or 'shape'}s are there?"
        why = " + ".join(f"{g.count} {g.colour} {g.shape}s" for g in fitting) or "There is none"
        total = sum(group.count for group in params.groups)
        wrong = near(answer, rng, slips=[total] if total != answer else [])
        return Task(picture, question, str(answer), AnswerKind.NUMBER, f"{why}: {answer}.", wrong)

    def check(self, params: ShapeCountParams, shown: Shown) -> str:
        """As `Program.check`."""
        found = [
            (_shape(blob), colour)
            for colour, rgb in COLOURS.items()
            for blob in measure.blobs(measure.where(shown.pixels, rgb))
        ]
        if asked := re.fullmatch(r"How many (?:(\w+) )?(\w+)s are there\?", shown.question):
            return str(sum(asked[1] in (None, c) and asked[2] in ("shape", s) for s, c in found))
        shapes = [shape for shape, _ in found]
        return max(FILLS, key=shapes.count)


def _by_shape(params: ShapeCountParams) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in params.groups:
        counts[group.shape] = counts.get(group.shape, 0) + group.count
    return counts


def _shape(blob: measure.Blob) -> str:
    shape = min(FILLS, key=lambda name: abs(FILLS[name] - blob.fill))
    if abs(FILLS[shape] - blob.fill) > 0.09:
        raise Unsettled(f"a piece fills {blob.fill:.2f} of its box")
    return shape


def _draw(params: ShapeCountParams, rng: Random) -> Image.Image:
    picture, draw = blank(PLACE * SPAN, PLACE * SPAN)
    every = [group for group in params.groups for _ in range(group.count)]
    for group, place in zip(every, rng.sample(range(SPAN * SPAN), len(every)), strict=True):
        size = rng.randint(26, 64)
        left = place % SPAN * PLACE + rng.randint(4, PLACE - size - 4)
        top = place // SPAN * PLACE + rng.randint(4, PLACE - size - 4)
        _shape_at(draw, group, left, top, size)
    return picture


def _shape_at(draw: ImageDraw.ImageDraw, group: Group, left: int, top: int, size: int) -> None:
    box, colour = (left, top, left + size, top + size), COLOURS[group.colour]
    if group.shape == "circle":
        draw.ellipse(box, colour)
    elif group.shape == "square":
        draw.rectangle(box, colour)
    else:
        draw.polygon([(left, top + size), (left + size, top + size), (left + size / 2, top)], colour)
