"""Tile patterns: colours counted, symmetry and repetition seen. Checked by the colours in the middles of the tiles."""

import re
from collections import Counter
from random import Random
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import COLOURS, blank
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, scaled
from dpe_ray.supply.construct.task import Shown, Task, Undrawable, Unsettled
from dpe_ray.types import AnswerKind

EDGE, JOINT = 20, (235, 232, 225)
"""Pixels around the pattern; colour of the joints."""
SYMMETRIES = {
    "vertical": "left and right halves mirror each other",
    "horizontal": "top and bottom halves mirror each other",
    "both": "both kinds of mirror symmetry",
    "none": "no mirror symmetry",
}

Colour = Literal["red", "blue", "green", "orange", "purple", "yellow", "brown", "pink"]


class TilePatternParams(Params):
    """A rectangle of square or round tiles; which tile has which colour is drawn by lot."""

    ask: Literal["count_colour", "mirror_symmetry", "most_frequent_colour", "rows_with_colour"]
    rows: Annotated[int, Field(ge=2, le=10)]
    columns: Annotated[int, Field(ge=2, le=10)]
    colours: Annotated[tuple[Colour, ...], Field(min_length=2, max_length=6)]
    symmetry: Literal["vertical", "horizontal", "both", "none"] = "none"
    """vertical: the left half mirrors the right."""
    colour: Colour
    """Colour that is asked for."""
    tile: Literal["square", "round"] = "square"

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if len(set(self.colours)) < len(self.colours):
            raise ValueError("a colour stands there twice")
        return self


class TilePattern(Program[TilePatternParams]):
    """A mosaic."""

    name = "tile_pattern"
    summary = "A mosaic of coloured tiles, with or without mirror symmetry."
    categories = ("artistic",)
    params = TilePatternParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> TilePatternParams:
        """As `Program.sample`: more tiles and colours are harder."""
        colours = rng.sample(tuple(COLOURS), scaled(2, 6, difficulty))
        most = scaled(4, 10, difficulty)
        return TilePatternParams(
            ask=ask,
            form="choice" if ask == "mirror_symmetry" else rng.choice(("choice", "open")),
            rows=rng.randint(max(3, most - 2), most),
            columns=rng.randint(max(3, most - 2), most),
            colours=tuple(colours),
            symmetry=rng.choice(("vertical", "horizontal", "both", "none")),
            colour=rng.choice(colours),
            tile=rng.choice(("square", "round")),
        )

    def make(self, params: TilePatternParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        tiles = _tiles(params, rng)
        picture = _draw(params, tiles, rng.choice((40, 48, 56)))
        if params.ask == "mirror_symmetry":
            answer = SYMMETRIES[_symmetry(tiles)]
            wrong = tuple(text for text in SYMMETRIES.values() if text != answer)
            return Task(
                picture, "Which describes the whole pattern?", answer, AnswerKind.TEXT, f"It has {answer}.", wrong
            )
        counts = Counter(name for row in tiles for name in row)
        if params.ask == "most_frequent_colour":
            (best, most), *others = counts.most_common()
            if others and others[0][1] == most:
                raise Undrawable("two colours are equally frequent")
            why = ", ".join(f"{name} {n}" for name, n in counts.most_common()) + "."
            wrong = tuple(name for name, _ in others) + tuple(COLOURS)
            return Task(picture, "Which colour do most tiles have?", best, AnswerKind.TEXT, why, wrong)
        per_row = [row.count(params.colour) for row in tiles]
        if params.ask == "count_colour":
            answer_number, why = sum(per_row), f"By rows: {' + '.join(map(str, per_row))} = {sum(per_row)}."
            question = f"How many tiles are {params.colour}?"
        else:
            answer_number = sum(n > 0 for n in per_row)
            question = f"How many horizontal rows hold at least one {params.colour} tile?"
            why = f"By rows there are {', '.join(map(str, per_row))}."
        return Task(picture, question, str(answer_number), AnswerKind.NUMBER, why, near(answer_number, rng))

    def check(self, params: TilePatternParams, shown: Shown) -> str:
        """As `Program.check`."""
        tiles = _read(shown.pixels, params.rows, params.columns)
        if "whole pattern" in shown.question:
            mirrored = bool((tiles == tiles[:, ::-1]).all()), bool((tiles == tiles[::-1]).all())
            return list(SYMMETRIES.values())[
                {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}[mirrored]
            ]
        if asked := re.fullmatch(r"How many tiles are (\w+)\?", shown.question):
            return str(int((tiles == asked[1]).sum()))
        if asked := re.search(r"at least one (\w+) tile", shown.question):
            return str(int((tiles == asked[1]).any(axis=1).sum()))
        names, counts = np.unique(tiles, return_counts=True)
        if (counts == counts.max()).sum() > 1:
            raise Unsettled("two colours are equally frequent")
        return str(names[counts.argmax()])


def _tiles(params: TilePatternParams, rng: Random) -> list[list[str]]:
    rows: list[list[str]] = [[rng.choice(params.colours) for _ in range(params.columns)] for _ in range(params.rows)]
    if params.symmetry in ("vertical", "both"):
        rows = [row[: (params.columns + 1) // 2] + row[: params.columns // 2][::-1] for row in rows]
    if params.symmetry in ("horizontal", "both"):
        rows = rows[: (params.rows + 1) // 2] + rows[: params.rows // 2][::-1]
    return rows


def _symmetry(tiles: list[list[str]]) -> str:
    """Of the tiles as they fell, whatever was meant."""
    left = all(row == row[::-1] for row in tiles)
    return (
        "both"
        if left and tiles == tiles[::-1]
        else "vertical"
        if left
        else "horizontal"
        if tiles == tiles[::-1]
        else "none"
    )


def _draw(params: TilePatternParams, tiles: list[list[str]], size: int) -> Image.Image:
    picture, draw = blank(2 * EDGE + size * params.columns, 2 * EDGE + size * params.rows, JOINT)
    for y, row in enumerate(tiles):
        for x, name in enumerate(row):
            left, top = EDGE + x * size + 2, EDGE + y * size + 2
            shape = draw.rectangle if params.tile == "square" else draw.ellipse
            shape((left, top, left + size - 4, top + size - 4), COLOURS[name])
    return picture


def _read(pixels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.str_]:
    """[rows, columns] Names of the colours."""
    solid = ~measure.where(pixels, JOINT)
    ys, xs = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
    names = {rgb: name for name, rgb in COLOURS.items()}
    height, width = (ys[-1] - ys[0] + 1) / rows, (xs[-1] - xs[0] + 1) / columns
    at_y = [int(ys[0] + (y + 0.5) * height) for y in range(rows)]
    at_x = [int(xs[0] + (x + 0.5) * width) for x in range(columns)]
    return np.array([[names[tuple(pixels[y, x].tolist())] for x in at_x] for y in at_y])
