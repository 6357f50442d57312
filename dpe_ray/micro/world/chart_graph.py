"""Bar charts: four coloured bars of height 1 to 8 (8 pixels a unit) over an axis."""

from random import Random

from PIL import Image

from dpe_ray.micro.world.base import COLUMNS, ROWS, Args, Category, Facts, Scene, Skill, Work, WrongRule, choose
from dpe_ray.micro.world.paint import CELL, INK, SIDE, Canvas

OPPOSITE = {"tallest": "shortest", "shortest": "tallest"}
UNIT = CELL // 2


def _make(level: int, rng: Random) -> Facts:
    colours = rng.sample(list(INK), 4)
    heights = rng.sample([2, 4, 6, 8] if level == 1 else range(1, 9), 4)
    return {column: f"{colour} {height}" for column, colour, height in zip(COLUMNS, colours, heights, strict=True)}


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (250, 250, 250), noise=2.0 + scene.level)
    for y in range(0, SIDE, CELL):
        canvas.pen.line((0, y, SIDE, y), fill=canvas.shade((215, 215, 215)))
    for i, column in enumerate(COLUMNS):
        colour, height = scene.facts[column].split()
        left = i * CELL + 2 + int(canvas.rng.integers(0, 3))
        canvas.pen.rectangle((left, SIDE - int(height) * UNIT, left + 9, SIDE), fill=canvas.shade(INK[colour]))
    canvas.pen.line((0, 0, 0, SIDE), fill=(30, 30, 30))
    canvas.pen.line((0, SIDE - 1, SIDE, SIDE - 1), fill=(30, 30, 30))
    return canvas.finish()


def _cell_label(facts: Facts, cell: str) -> str:
    _, height = facts[cell[0]].split()
    filled = int(height) - 2 * (3 - ROWS.index(cell[1]))
    return facts[cell[0]] if filled > 0 else "empty"


def _heights(facts: Facts) -> dict[str, int]:
    """Height by colour, from left to right."""
    pairs = (facts[column].split() for column in COLUMNS)
    return {colour: int(height) for colour, height in pairs}


# extreme_bar


def _pick_extreme(facts: Facts, rng: Random) -> Args | None:
    return {"extreme": rng.choice(list(OPPOSITE))}


def _extreme(facts: Facts, args: Args) -> Work:
    heights = _heights(facts)
    want = {"tallest": max, "shortest": min}[args["extreme"]]
    colour = want(heights, key=lambda name: heights[name])
    seen = " ".join(facts[column] for column in COLUMNS)
    return Work(f"{args['extreme']} bar", seen, f"{heights[colour]} is {colour}", colour)


def _extreme_opposite(facts: Facts, args: Args) -> Work:
    return _extreme(facts, {"extreme": OPPOSITE[args["extreme"]]})


# bar_difference


def _pick_bars(facts: Facts, rng: Random) -> Args | None:
    heights = _heights(facts)
    return choose(rng, [{"high": p, "low": q} for p in heights for q in heights if heights[p] > heights[q]])


def _difference(facts: Facts, args: Args) -> Work:
    high, low = args["high"], args["low"]
    p, q = _heights(facts)[high], _heights(facts)[low]
    if p <= q:
        raise ValueError(f"{high} is not taller than {low}")
    return Work(f"{high} minus {low}", f"{high} {p} {low} {q}", f"{p} - {q} = {p - q}", str(p - q))


def _difference_added(facts: Facts, args: Args) -> Work:
    p, q = _heights(facts)[args["high"]], _heights(facts)[args["low"]]
    return _difference(facts, args)._replace(conclusion=f"{p} + {q} = {p + q}", answer=str(p + q))


def _difference_misread(facts: Facts, args: Args) -> Work:
    heights = _heights(facts) | {args["high"]: _heights(facts)[args["high"]] + 1}
    return _difference({c: f"{n} {h}" for c, (n, h) in zip(COLUMNS, heights.items(), strict=True)}, args)


CATEGORY = Category(
    name="chart_graph",
    make=_make,
    paint=_paint,
    cell_label=_cell_label,
    skills=(
        Skill(
            name="extreme_bar",
            description="find the tallest or shortest bar of a chart",
            kind="text",
            phrasings=("Which bar is the {extreme}?", "What colour is the {extreme} bar?", "Name the {extreme} bar."),
            pick=_pick_extreme,
            work=_extreme,
            rules=(WrongRule("opposite_extreme", "misunderstanding", _extreme_opposite),),
        ),
        Skill(
            name="bar_difference",
            description="say by how much one bar is taller than another",
            kind="number",
            phrasings=(
                "How much taller is the {high} bar than the {low} bar?",
                "By how many units does the {high} bar exceed the {low} bar?",
                "What is the height of the {high} bar minus that of the {low} bar?",
            ),
            pick=_pick_bars,
            work=_difference,
            rules=(
                WrongRule("adds", "calculation", _difference_added),
                WrongRule("reads_one_high", "visual_recognition", _difference_misread),
            ),
        ),
    ),
)
