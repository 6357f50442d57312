"""Blackboards: two printed formulas `p o q`, each in a row of its own."""

from random import Random

from PIL import Image

from dpe_ray.micro.world.base import (
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
)
from dpe_ray.micro.world.paint import Canvas

OPERATORS = {1: "+", 2: "+-", 3: "+-x"}
"""Signs in use, by level."""
SWAPPED = {"+": "-", "-": "+", "x": "+"}


def _make(level: int, rng: Random) -> Facts:
    facts: Facts = {}
    for row in sorted(rng.sample(ROWS, 2)):
        sign = rng.choice(OPERATORS[level])
        top = 5 if sign == "x" else 9
        p, q = sorted((rng.randint(1, top), rng.randint(1, top)), reverse=True)
        facts |= {f"a{row}": str(p), f"b{row}": sign, f"c{row}": str(q), f"d{row}": "="}
    return facts


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (28, 66, 48), noise=3.0 + scene.level)
    x, y = (int(n) for n in canvas.rng.integers(0, 60, 2))
    canvas.pen.ellipse((x - 20, y - 6, x + 20, y + 6), fill=canvas.shade((44, 84, 64)))
    for cell in occupied(scene.facts):
        canvas.text(cell, scene.facts[cell], (235, 235, 225))
    return canvas.finish()


def _rows(facts: Facts) -> list[str]:
    return [row for row in ROWS if f"a{row}" in facts]


def _apply(p: int, sign: str, q: int) -> int:
    return {"+": p + q, "-": p - q, "x": p * q}[sign]


# formula_value


def _pick_row(facts: Facts, rng: Random) -> Args | None:
    values = {_value(facts, {"row": row}).answer for row in _rows(facts)}
    return {"row": rng.choice(_rows(facts))} if len(values) == 2 else None


def _value(facts: Facts, args: Args) -> Work:
    row = args["row"]
    p, sign, q = (facts[column + row] for column in "abc")
    value = _apply(int(p), sign, int(q))
    return Work(f"value of row {row}", f"a{row} {p} b{row} {sign} c{row} {q}", f"{p} {sign} {q} = {value}", str(value))


def _value_other_row(facts: Facts, args: Args) -> Work:
    (other,) = (row for row in _rows(facts) if row != args["row"])
    return _value(facts, {"row": other})


def _value_swapped_sign(facts: Facts, args: Args) -> Work:
    right = _value(facts, args)
    _, p, _, sign, _, q = right.facts.split()
    value = _apply(int(p), SWAPPED[sign], int(q))
    return right._replace(conclusion=f"{p} {SWAPPED[sign]} {q} = {value}", answer=str(value))


# formula_parity


def _parity(facts: Facts, args: Args) -> Work:
    right = _value(facts, args)
    word = "odd" if int(right.answer) % 2 else "even"
    return Work(f"parity of row {args['row']}", right.facts, f"{right.answer} is {word}", word)


def _parity_inverted(facts: Facts, args: Args) -> Work:
    right = _parity(facts, args)
    word = {"odd": "even", "even": "odd"}[right.answer]
    return right._replace(conclusion=right.conclusion.replace(right.answer, word), answer=word)


def _pick_any_row(facts: Facts, rng: Random) -> Args | None:
    return choose(rng, [{"row": row} for row in _rows(facts)])


CATEGORY = Category(
    name="math_formula",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="formula_value",
            description="work out a formula written on a board",
            kind="number",
            phrasings=(
                "What is the value of the formula in row {row}?",
                "Work out the formula on row {row}.",
                "What does row {row} come to?",
            ),
            pick=_pick_row,
            work=_value,
            rules=(
                WrongRule("other_row", "misunderstanding", _value_other_row),
                WrongRule("swapped_sign", "calculation", _value_swapped_sign),
            ),
        ),
        Skill(
            name="formula_parity",
            description="say whether the value of a formula is odd or even",
            kind="text",
            phrasings=(
                "Is the result of row {row} odd or even?",
                "Odd or even: what is the outcome of row {row}?",
                "Does the line in row {row} give an odd or an even result?",
            ),
            pick=_pick_any_row,
            work=_parity,
            rules=(WrongRule("inverted", "reasoning", _parity_inverted),),
        ),
    ),
)
