"""Geometric pictures: coloured shapes on a light plane."""

from random import Random

from PIL import Image

from dpe_ray.micro.world.base import (
    CELLS,
    Args,
    Category,
    Facts,
    Scene,
    Skill,
    Work,
    WrongRule,
    cells_with,
    choose,
    occupied,
    plain_label,
    shift,
)
from dpe_ray.micro.world.paint import INK, Canvas

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = tuple(INK)
OTHER_COLOUR = dict(zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True))


def _make(level: int, rng: Random) -> Facts:
    cells = sorted(rng.sample(CELLS, {1: 5, 2: 7, 3: 9}[level]), key=CELLS.index)
    return {cell: f"{rng.choice(COLOURS)} {rng.choice(SHAPES)}" for cell in cells}


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (238, 238, 232))
    for cell, label in scene.facts.items():
        colour, shape = label.split()
        canvas.glyph(cell, shape, INK[colour])
    return canvas.finish()


# shape_colour


def _pick_colour(facts: Facts, rng: Random) -> Args | None:
    below = {cell: facts.get(shift(cell, rows=1)) for cell in occupied(facts)}
    return choose(rng, [{"cell": c} for c, b in below.items() if b and b.split()[0] != facts[c].split()[0]])


def _colour(facts: Facts, args: Args) -> Work:
    cell = args["cell"]
    colour = facts[cell].split()[0]
    return Work(f"colour at {cell}", f"{cell} {colour}", f"it is {colour}", colour)


def _colour_below(facts: Facts, args: Args) -> Work | None:
    below = shift(args["cell"], rows=1)
    return _colour(facts, {"cell": below}) if below in facts else None


def _colour_confused(facts: Facts, args: Args) -> Work:
    colour, shape = facts[args["cell"]].split()
    return _colour({args["cell"]: f"{OTHER_COLOUR[colour]} {shape}"}, args)


# count_shape


def _pick_shape(facts: Facts, rng: Random) -> Args | None:
    return choose(rng, [{"shape": shape} for shape in SHAPES if 1 <= len(cells_with(facts, shape)) <= 4])


def _tally(shape: str, cells: list[str], extra: int = 0) -> Work:
    total = str(len(cells) + extra)
    return Work(f"count {shape}", " ".join(cells) or "none", f"makes {total}", total)


def _count(facts: Facts, args: Args) -> Work:
    return _tally(args["shape"], cells_with(facts, _known(args["shape"])))


def _count_misses_last(facts: Facts, args: Args) -> Work:
    return _tally(args["shape"], cells_with(facts, args["shape"])[:-1])


def _count_one_more(facts: Facts, args: Args) -> Work:
    return _tally(args["shape"], cells_with(facts, args["shape"]), extra=1)


def _known(shape: str) -> str:
    return SHAPES[SHAPES.index(shape)]


# side_of


def _pick_pair(facts: Facts, rng: Random) -> Args | None:
    labels = list(facts.values())
    unique = [cell for cell in facts if labels.count(facts[cell]) == 1]
    pairs = [(p, q) for p in unique for q in unique if p[0] != q[0]]
    if not pairs:
        return None
    (colour1, shape1), (colour2, shape2) = (facts[cell].split() for cell in rng.choice(pairs))
    return {"colour1": colour1, "shape1": shape1, "colour2": colour2, "shape2": shape2}


def _side(facts: Facts, args: Args) -> Work:
    first, second = (f"{args[f'colour{i}']} {args[f'shape{i}']}" for i in "12")
    cells = {label: cell for cell, label in facts.items()}
    p, q = cells[first], cells[second]
    left = p[0] < q[0]
    relation = "before" if left else "after"
    return Work(
        f"{first} from {second}",
        f"{first} {p} {second} {q}",
        f"{p[0]} is {relation} {q[0]}",
        "left" if left else "right",
    )


def _side_mirrored(facts: Facts, args: Args) -> Work:
    right = _side(facts, args)
    words = right.conclusion.split()
    words[2] = "after" if right.answer == "left" else "before"
    return right._replace(conclusion=" ".join(words), answer="right" if right.answer == "left" else "left")


CATEGORY = Category(
    name="geometric",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="shape_colour",
            description="name the colour of the shape in a given cell",
            kind="text",
            phrasings=(
                "What colour is the shape at {cell}?",
                "Which colour does the shape in cell {cell} have?",
                "Name the colour of the shape at {cell}.",
            ),
            pick=_pick_colour,
            work=_colour,
            rules=(
                WrongRule("cell_below", "misunderstanding", _colour_below),
                WrongRule("colours_confused", "visual_recognition", _colour_confused),
            ),
        ),
        Skill(
            name="count_shape",
            description="count the shapes of one form",
            kind="number",
            phrasings=(
                "How many {shape}s are there?",
                "Count the {shape}s in the picture.",
                "What is the number of {shape}s shown?",
            ),
            pick=_pick_shape,
            work=_count,
            rules=(
                WrongRule("one_more", "calculation", _count_one_more),
                WrongRule("misses_last", "visual_recognition", _count_misses_last),
            ),
        ),
        Skill(
            name="side_of",
            description="say on which side of a shape another shape lies",
            kind="text",
            phrasings=(
                "Is the {colour1} {shape1} left or right of the {colour2} {shape2}?",
                "On which side of the {colour2} {shape2} is the {colour1} {shape1}, left or right?",
                "Does the {colour1} {shape1} lie to the left or to the right of the {colour2} {shape2}?",
            ),
            pick=_pick_pair,
            work=_side,
            rules=(WrongRule("mirrored", "reasoning", _side_mirrored),),
        ),
    ),
)
