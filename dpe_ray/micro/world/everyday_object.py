"""Shelves with household objects, each kind at most once."""

from random import Random

from PIL import Image

from dpe_ray.micro.world.base import (
    CELLS,
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
from dpe_ray.micro.world.paint import Canvas, Colour

OBJECTS = ("cup", "book", "key", "lamp", "apple", "clock", "fish", "bell")
INKS: tuple[Colour, ...] = ((170, 30, 40), (30, 70, 170), (30, 110, 60), (90, 40, 120))
OPPOSITE = {"left": "right", "right": "left"}


def _make(level: int, rng: Random) -> Facts:
    row, start = rng.choice(ROWS), rng.randint(0, 1)
    together = [column + row for column in COLUMNS[start : start + 3]]
    cells = together + rng.sample([cell for cell in CELLS if cell not in together], level + 1)
    return dict(zip(cells, rng.sample(OBJECTS, len(cells)), strict=True))


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (214, 180, 140), noise=3.0 + scene.level)
    for y in range(15, 64, 16):
        canvas.pen.line((0, y, 64, y), fill=canvas.shade((130, 90, 50)))
    for cell in occupied(scene.facts):
        ink = INKS[int(canvas.rng.integers(len(INKS)))]
        canvas.glyph(cell, scene.facts[cell], ink)
    return canvas.finish()


# object_at


def _pick_cell(facts: Facts, rng: Random) -> Args | None:
    return choose(rng, [{"cell": cell} for cell in occupied(facts) if _neighbour(facts, cell)])


def _neighbour(facts: Facts, cell: str) -> str:
    """Find an object beside the cell, right before left; "" if there is none."""
    return facts.get(shift(cell, columns=1), "") or facts.get(shift(cell, columns=-1), "")


def _object(facts: Facts, args: Args) -> Work:
    cell = args["cell"]
    return Work(f"object at {cell}", f"{cell} {facts[cell]}", f"it is {facts[cell]}", facts[cell])


def _object_neighbour(facts: Facts, args: Args) -> Work | None:
    beside = _neighbour(facts, args["cell"])
    return _object({args["cell"]: beside}, args) if beside else None


# beside_object


def _pick_between(facts: Facts, rng: Random) -> Args | None:
    middle = [cell for cell in occupied(facts) if all(facts.get(shift(cell, columns=d)) for d in (-1, 1))]
    return choose(rng, [{"thing": facts[cell], "side": side} for cell in middle for side in OPPOSITE])


def _beside(facts: Facts, args: Args) -> Work:
    thing, side = args["thing"], args["side"]
    here = {name: cell for cell, name in facts.items()}[thing]
    line = [shift(here, columns=d) for d in (-1, 0, 1)]
    found = facts[line[0] if side == "left" else line[2]]
    return Work(f"{side} of {thing}", " ".join(f"{c} {facts[c]}" for c in line), f"{side} is {found}", found)


def _beside_mirrored(facts: Facts, args: Args) -> Work:
    right = _beside(facts, args)
    wrong = _beside(facts, {"thing": args["thing"], "side": OPPOSITE[args["side"]]}).answer
    return right._replace(conclusion=f"{args['side']} is {wrong}", answer=wrong)


CATEGORY = Category(
    name="everyday_object",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="object_at",
            description="name the object in a given cell of a shelf",
            kind="choice",
            phrasings=(
                "Which object stands at {cell}?",
                "What is kept in cell {cell} of the shelf?",
                "Name the object found at {cell}.",
            ),
            pick=_pick_cell,
            work=_object,
            rules=(WrongRule("neighbour_cell", "visual_recognition", _object_neighbour),),
            options=OBJECTS,
        ),
        Skill(
            name="beside_object",
            description="name the object directly beside another one",
            kind="text",
            phrasings=(
                "What stands directly {side} of the {thing}?",
                "Which object is next to the {thing} on its {side}?",
                "Name the neighbour of the {thing} on the {side} side.",
            ),
            pick=_pick_between,
            work=_beside,
            rules=(WrongRule("mirrored", "reasoning", _beside_mirrored),),
        ),
    ),
)
