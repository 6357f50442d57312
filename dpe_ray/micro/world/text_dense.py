"""Pages of handwritten numerals: scikit-learn's 1,797 real digits, one per cell, on paper.

The pictures are split by index, so that training, pool and held-out scenes never share one.
"""

from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dpe_ray.micro.world.base import (
    COLUMNS,
    ROWS,
    Args,
    Category,
    Facts,
    Scene,
    Skill,
    Work,
    WrongRule,
    choose,
    occupied,
    plain_label,
    shift,
)
from dpe_ray.micro.world.paint import Canvas

SPLITS = {"train": (0, 1397), "pool": (1397, 1597), "heldout": (1597, 1797)}
"""Index ranges of the handwritten pictures, by the value of the fact `split`."""
_PAIRS = ("06", "17", "23", "49", "58")
CONFUSED = {digit: pair.replace(digit, "") for pair in _PAIRS for digit in pair}
"""Each digit with the one of similar form that it may be taken for."""
OPPOSITE = {"largest": "smallest", "smallest": "largest"}


def _make(level: int, rng: Random) -> Facts:
    num_columns, num_rows = {1: (3, 2), 2: (3, 3), 3: (4, 3)}[level]
    top = rng.randint(0, 4 - num_rows)
    cells = [column + row for row in ROWS[top : top + num_rows] for column in COLUMNS[:num_columns]]
    return {cell: str(rng.randint(0, 9)) for cell in cells} | {"split": "train"}


@cache
def handwriting(split: str) -> dict[str, NDArray[np.float64]]:
    """Real pictures by numeral: arrays of shape (N, 8, 8), ink 0-1."""
    from sklearn.datasets import load_digits

    start, stop = SPLITS[split]
    data = load_digits()
    images, labels = data.images[start:stop] / 16.0, data.target[start:stop]
    return {str(digit): images[labels == digit] for digit in range(10)}


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (244, 236, 214), noise=3.0)
    for y in range(15, 64, 16):
        canvas.pen.line((0, y, 64, y), fill=canvas.shade((205, 205, 225)))
    pictures = handwriting(scene.facts["split"])
    for cell in occupied(scene.facts):
        choices = pictures[scene.facts[cell]]
        ink = np.kron(choices[canvas.rng.integers(len(choices))], np.ones((2, 2)))
        rolled = np.roll(ink, tuple(int(n) for n in canvas.rng.integers(-1, 2, 2)), axis=(0, 1))
        canvas.stamp(cell, rolled, canvas.shade((40, 40, 90)))
    return canvas.finish()


# read_digit


def _pick_digit(facts: Facts, rng: Random) -> Args | None:
    cells = occupied(facts)
    return choose(rng, [{"cell": c} for c in cells if facts[_neighbour(facts, c)] != facts[c]])


def _neighbour(facts: Facts, cell: str) -> str:
    """Return the cell to the right, or to the left at the end of a line."""
    right = shift(cell, columns=1)
    return right if right in facts else shift(cell, columns=-1)


def _read(facts: Facts, args: Args) -> Work:
    cell = args["cell"]
    return Work(f"digit at {cell}", f"{cell} {facts[cell]}", f"it reads {facts[cell]}", facts[cell])


def _read_confused(facts: Facts, args: Args) -> Work:
    return _read({args["cell"]: CONFUSED[facts[args["cell"]]]}, args)


def _read_neighbour(facts: Facts, args: Args) -> Work:
    return _read({args["cell"]: facts[_neighbour(facts, args["cell"])]}, args)


# digit_sum


def _pick_two(facts: Facts, rng: Random) -> Args | None:
    first, second = rng.sample(occupied(facts), 2)
    return {"cell1": first, "cell2": second}


def _sum(facts: Facts, args: Args, extra: int = 0) -> Work:
    p, q = args["cell1"], args["cell2"]
    total = int(facts[p]) + int(facts[q]) + extra
    seen = f"{p} {facts[p]} {q} {facts[q]}"
    return Work(f"{p} plus {q}", seen, f"{facts[p]} + {facts[q]} = {total}", str(total))


def _sum_one_more(facts: Facts, args: Args) -> Work:
    return _sum(facts, args, extra=1)


def _sum_neighbour(facts: Facts, args: Args) -> Work | None:
    moved = facts | {args["cell1"]: facts[_neighbour(facts, args["cell1"])]}
    return _sum(moved, args) if moved != facts else None


# row_extreme


def _pick_row(facts: Facts, rng: Random) -> Args | None:
    rows = [row for row in ROWS if len(set(_row(facts, row).values())) > 1]
    return choose(rng, [{"extreme": extreme, "row": row} for extreme in OPPOSITE for row in rows])


def _row(facts: Facts, row: str) -> dict[str, str]:
    return {column + row: facts[column + row] for column in COLUMNS if column + row in facts}


def _extreme(facts: Facts, args: Args) -> Work:
    extreme, digits = args["extreme"], _row(facts, args["row"])
    digit = {"largest": max, "smallest": min}[extreme](digits.values())
    seen = " ".join(f"{cell} {digits[cell]}" for cell in digits)
    return Work(f"{extreme} in row {args['row']}", seen, f"{extreme} is {digit}", digit)


def _extreme_opposite(facts: Facts, args: Args) -> Work:
    return _extreme(facts, {"extreme": OPPOSITE[args["extreme"]], "row": args["row"]})


CATEGORY = Category(
    name="text_dense",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="read_digit",
            description="read the handwritten digit in a given cell",
            kind="number",
            phrasings=(
                "Which digit is written at {cell}?",
                "Read the digit in cell {cell}.",
                "What number stands at {cell} on the page?",
            ),
            pick=_pick_digit,
            work=_read,
            rules=(
                WrongRule("digits_confused", "visual_recognition", _read_confused),
                WrongRule("neighbour_cell", "visual_recognition", _read_neighbour),
            ),
        ),
        Skill(
            name="digit_sum",
            description="add two handwritten digits",
            kind="number",
            phrasings=(
                "What is the sum of the digits at {cell1} and {cell2}?",
                "Add the digits in cells {cell1} and {cell2}.",
                "How much do {cell1} and {cell2} make together?",
            ),
            pick=_pick_two,
            work=_sum,
            rules=(
                WrongRule("one_more", "calculation", _sum_one_more),
                WrongRule("neighbour_cell", "visual_recognition", _sum_neighbour),
            ),
        ),
        Skill(
            name="row_extreme",
            description="find the largest or smallest handwritten digit of a line",
            kind="number",
            phrasings=(
                "What is the {extreme} digit in row {row}?",
                "Which digit of row {row} is the {extreme}?",
                "Find the {extreme} digit on line {row}.",
            ),
            pick=_pick_row,
            work=_extreme,
            rules=(WrongRule("opposite_extreme", "misunderstanding", _extreme_opposite),),
        ),
    ),
)
