"""Stickers pasted onto a pool image, to be counted and placed. Checked by the pieces that differ from the image."""

import re
from random import Random
from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import COLOURS
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid, scaled
from dpe_ray.supply.construct.task import Shown, Task, Undrawable, Unsettled
from dpe_ray.types import AnswerKind

LONGEST, GRID = 768, 6
"""Longest side of the picture in pixels; places per side."""
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
FILLS = {"square": 1.0, "disc": 0.785}
"""Share of its bounding box that a sticker fills."""

Colour = Literal["red", "blue", "green", "orange", "purple", "yellow"]
Count = Annotated[int, Field(ge=0, le=9)]


class StickerCountParams(Params):
    """Discs and squares of one colour, each with a white rim."""

    ask: Literal["count_pasted", "count_pasted_shape", "locate_pasted", "compare_pasted"]
    discs: Count
    squares: Count
    """locate_pasted wants one sticker in all; at most 18 together."""
    shape: Literal["disc", "square"] = "disc"
    """Shape that is asked for."""
    colour: Colour = "red"
    size: Annotated[int, Field(ge=24, le=60)] = 40
    """Pixels across, at the most."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if self.discs + self.squares < 1 or (self.ask == "locate_pasted" and self.discs + self.squares > 1):
            raise ValueError("there must be a sticker, and only one when it is to be located")
        if self.ask == "compare_pasted" and self.discs == self.squares:
            raise ValueError("there are as many discs as squares")
        return self


class StickerCount(Program[StickerCountParams]):
    """An overlay with a known effect."""

    name = "sticker_count"
    summary = "An image of the pool with coloured stickers, discs and squares with a white rim, pasted onto it."
    categories = ("mixed",)
    params = StickerCountParams
    on_image = True

    def sample(self, ask: str, difficulty: float, rng: Random) -> StickerCountParams:
        """As `Program.sample`: more and smaller stickers are harder."""
        most = scaled(3, 9, difficulty)

        def attempt() -> StickerCountParams:
            counts = (
                [rng.randint(0, most) for _ in range(2)] if ask != "locate_pasted" else rng.choice(([0, 1], [1, 0]))
            )
            return StickerCountParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                discs=counts[0],
                squares=counts[1],
                shape=rng.choice(("disc", "square")),
                colour=rng.choice(("red", "blue", "green", "orange", "purple", "yellow")),
                size=scaled(60, 26, difficulty),
            )

        return first_valid(attempt)

    def make(self, params: StickerCountParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`. Raises Undrawable when the image is too small, or has the stickers' colour itself."""
        picture = fitted(base)
        if measure.where(np.asarray(picture), COLOURS[params.colour]).any():
            raise Undrawable(f"the image itself has pixels of the stickers' {params.colour}")
        shapes = ["disc"] * params.discs + ["square"] * params.squares
        quarter = _paste(picture, shapes, params, rng)
        total, what = params.discs + params.squares, f"{params.colour} stickers with a white rim"
        if params.ask == "locate_pasted":
            question = f"In which quarter of the picture is the {params.colour} sticker with a white rim?"
            wrong = tuple(name for name in QUARTERS if name != quarter)
            alias = (quarter.replace(" ", "-"),)
            return Task(picture, question, quarter, AnswerKind.TEXT, f"It is at the {quarter}.", wrong, alias)
        why = f"{params.discs} discs and {params.squares} squares were pasted."
        if params.ask == "compare_pasted":
            more, fewer = ("discs", "squares") if params.discs > params.squares else ("squares", "discs")
            question = f"Of the {what}, which shape is there more often?"
            return Task(picture, question, more, AnswerKind.TEXT, why, (fewer, "both equally often"), (more[:-1],))
        if params.ask == "count_pasted":
            return _number(picture, f"How many {what} are there?", total, why, near(total, rng, slips=[params.discs]))
        answer = params.discs if params.shape == "disc" else params.squares
        question = f"How many of the {what} are {params.shape}s?"
        return _number(picture, question, answer, why, near(answer, rng, slips=[total]))

    def check(self, params: StickerCountParams, shown: Shown) -> str:
        """As `Program.check`: pieces of the colour, which the image without stickers must not have."""
        colour = next(rgb for name, rgb in COLOURS.items() if f" {name} sticker" in shown.question)
        if shown.base is None or measure.where(shown.base, colour).any():
            raise Unsettled("the image itself has the stickers' colour")
        found = measure.blobs(measure.where(shown.pixels, colour))
        shapes = [min(FILLS, key=lambda name: abs(FILLS[name] - blob.fill)) for blob in found]
        if "quarter" in shown.question:
            one, (height, width) = measure.only(found, "the sticker"), shown.pixels.shape[:2]
            return QUARTERS[2 * (one.y > height / 2) + (one.x > width / 2)]
        if "more often" in shown.question:
            return max(FILLS, key=shapes.count) + "s"
        kind = re.search(r"are (disc|square)s\?", shown.question)
        return str(shapes.count(kind[1]) if kind else len(found))


def fitted(base: Image.Image | None) -> Image.Image:
    """A copy of a pool image, scaled down to 768 pixels. Raises Undrawable below 192 pixels a side."""
    if base is None or min(base.size) < 192 or max(base.size) > 4 * min(base.size):
        raise Undrawable("the image is too small or too narrow to be edited")
    picture = base.convert("RGB")
    picture.thumbnail((LONGEST, LONGEST))
    return picture


def _number(picture: Image.Image, question: str, answer: int, why: str, wrong: tuple[str, ...]) -> Task:
    return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong)


def _paste(picture: Image.Image, shapes: list[str], params: StickerCountParams, rng: Random) -> str:
    """Draw the stickers, each in a place of its own; gives the quarter of the last."""
    draw, wide, high = ImageDraw.Draw(picture), picture.width // GRID, picture.height // GRID
    size, quarter = min(params.size, wide - 8, high - 8), ""
    if size < 16:
        raise Undrawable("the image is too narrow for stickers")
    for shape, place in zip(shapes, rng.sample(range(GRID * GRID), len(shapes)), strict=True):
        left = place % GRID * wide + rng.randint(3, wide - size - 4)
        top = place // GRID * high + rng.randint(3, high - size - 4)
        pen = draw.ellipse if shape == "disc" else draw.rectangle
        pen((left - 2, top - 2, left + size + 2, top + size + 2), (255, 255, 255))
        pen((left, top, left + size, top + size), COLOURS[params.colour])
        quarter = QUARTERS[2 * (place // GRID >= GRID // 2) + (place % GRID >= GRID // 2)]
    return quarter
