"""Tables of whole numbers: looked up, added, compared. Checked by reading the digits in the picture."""

import re
from itertools import pairwise
from random import Random
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import GREY, blank, write
from dpe_ray.supply.construct.labels import Label, distinct
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, scaled
from dpe_ray.supply.construct.task import Shown, Task
from dpe_ray.supply.construct.words import GOODS, MONTHS, NAMES
from dpe_ray.types import AnswerKind

SIZE = 18
"""Height of the digits in pixels."""
MARGIN, WIDTH, HEIGHT = 24, 116, 34
"""Around the table; of a cell. Pixels."""

Cell = Annotated[int, Field(ge=-999, le=9999)]


class NumberTableParams(Params):
    """A table with 1-6 columns and 2-12 rows of numbers."""

    ask: Literal["look_up_cell", "column_total", "find_row_maximum", "count_above_threshold"]
    corner: Label
    """Heading of the row names."""
    columns: Annotated[tuple[Label, ...], Field(min_length=1, max_length=6)]
    rows: Annotated[tuple[Label, ...], Field(min_length=2, max_length=12)]
    cells: Annotated[tuple[tuple[Cell, ...], ...], Field(min_length=2, max_length=12)]
    """One list per row, as long as `columns`."""
    row: Annotated[int, Field(ge=0, le=11)] = 0
    """Row that is asked about, from 0."""
    column: Annotated[int, Field(ge=0, le=5)] = 0
    threshold: Cell = 0
    """No cell of the column may be equal to it when it is asked for."""
    shaded: bool = False
    """Grey every other row."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if len(self.cells) != len(self.rows) or any(len(line) != len(self.columns) for line in self.cells):
            raise ValueError("cells must hold one list per row with one number per column")
        distinct(self.columns)
        distinct(self.rows)
        if self.row >= len(self.rows) or self.column >= len(self.columns):
            raise ValueError("row or column lies outside the table")
        asked = [line[self.column] for line in self.cells]
        if self.ask == "find_row_maximum" and asked.count(max(asked)) > 1:
            raise ValueError("two rows share the maximum")
        if self.ask == "count_above_threshold" and self.threshold in asked:
            raise ValueError("a cell is equal to the threshold")
        return self


class NumberTable(Program[NumberTableParams]):
    """A ruled table."""

    name = "number_table"
    summary = "A ruled table of whole numbers with named rows and columns."
    categories = ("text_dense",)
    params = NumberTableParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> NumberTableParams:
        """As `Program.sample`: more rows, columns and digits are harder."""
        rows, columns = scaled(3, 12, difficulty), scaled(1, 6, difficulty)
        most = 10 ** scaled(2, 4, difficulty) - 1
        column = rng.randrange(columns)
        cells = [[rng.randint(1, most) for _ in range(columns)] for _ in range(rows)]
        for line, value in zip(cells, rng.sample(range(1, most), rows), strict=True):
            line[column] = value
        asked = [line[column] for line in cells]
        return NumberTableParams(
            ask=ask,
            form=rng.choice(("choice", "open")),
            corner=rng.choice(("Name", "Item", "Group")),
            columns=MONTHS[:columns],
            rows=rng.choice((NAMES, GOODS))[:rows],
            cells=tuple(map(tuple, cells)),
            row=rng.randrange(rows),
            column=column,
            threshold=rng.choice([n for n in range(1, most) if n not in asked]),
            shaded=rng.random() < 0.5,
        )

    def make(self, params: NumberTableParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params)
        row, column = params.rows[params.row], params.columns[params.column]
        asked = [line[params.column] for line in params.cells]
        if params.ask == "look_up_cell":
            answer = asked[params.row]
            question = f'What number stands in row "{row}" under "{column}"?'
            why = f'Row "{row}" and column "{column}" meet at {answer}.'
            slips = [*params.cells[params.row], *asked]
        elif params.ask == "column_total":
            answer = sum(asked)
            question = f'What is the sum of all numbers under "{column}"?'
            why = f"{' + '.join(map(str, asked))} = {answer}."
            slips = [answer - asked[-1], answer - asked[0], answer + 10, answer - 10]
        elif params.ask == "count_above_threshold":
            answer = sum(n > params.threshold for n in asked)
            question = f'How many rows have more than {params.threshold} under "{column}"?'
            why = f"More than {params.threshold}: {', '.join(str(n) for n in asked if n > params.threshold) or 'none'}."
            slips = [len(asked) - answer]
        else:
            best = params.rows[asked.index(max(asked))]
            question = f'Which row has the largest number under "{column}"?'
            others = tuple(name for name in params.rows if name != best)
            why = f'The largest number under "{column}" is {max(asked)}, in row "{best}".'
            return Task(picture, question, best, AnswerKind.TEXT, why, others)
        least = 0 if params.ask == "count_above_threshold" else -100_000
        wrong = near(answer, rng, least=least, slips=rng.sample(slips, len(slips)))
        return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong)

    def check(self, params: NumberTableParams, shown: Shown) -> str:
        """As `Program.check`: cells are cut out between the ruled lines, and their digits compared with shapes."""
        named = re.findall(r'"([^"]+)"', shown.question)
        column = _read(shown.pixels, params.columns.index(named[-1]))
        asked = dict(zip(params.rows, column, strict=True))
        if shown.question.startswith("What number"):
            return str(asked[named[0]])
        if shown.question.startswith("What is the sum"):
            return str(int(np.sum(list(asked.values()))))
        if above := re.search(r"more than (-?\d+)", shown.question):
            return str(sum(n > int(above[1]) for n in asked.values()))
        return max(asked, key=lambda name: asked[name])


def _draw(params: NumberTableParams) -> Image.Image:
    rows, columns = len(params.rows) + 1, len(params.columns) + 1
    picture, draw = blank(2 * MARGIN + columns * WIDTH + 1, 2 * MARGIN + rows * HEIGHT + 1)
    table = [
        (params.corner, *params.columns),
        *((n, *map(str, c)) for n, c in zip(params.rows, params.cells, strict=True)),
    ]
    for y, line in enumerate(table):
        for x, text in enumerate(line):
            left, top = MARGIN + x * WIDTH, MARGIN + y * HEIGHT
            ground = (225, 232, 245) if y == 0 else (240, 240, 240) if params.shaded and y % 2 else (255, 255, 255)
            draw.rectangle((left, top, left + WIDTH, top + HEIGHT), ground, GREY)
            write(draw, (left + WIDTH / 2, top + HEIGHT / 2), text, SIZE, WIDTH - 8)
    return picture


def _read(pixels: NDArray[np.uint8], column: int) -> list[int]:
    """Numbers of a column, from 0, without the one of names."""
    ruled = measure.where(pixels, GREY)
    ys, xs = measure.lines(ruled, 1, 0.6), measure.lines(ruled, 0, 0.5)
    left, right = xs[column + 1] + 2, xs[column + 2] - 1
    return [measure.read_number(pixels[top + 2 : bottom - 1, left:right], SIZE) for top, bottom in pairwise(ys[1:])]
