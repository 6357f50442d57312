"""Scans: bright findings inside a grey body on black, with heavy sensor noise."""

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
)
from dpe_ray.micro.world.paint import SIDE, Canvas

FINDINGS = ("large", "small", "ring")
OTHER_FINDING = {"large": "small", "small": "large", "ring": "large"}


def _make(level: int, rng: Random) -> Facts:
    cells = sorted(rng.sample(CELLS, 3 if level > 1 else 2), key=CELLS.index)
    names = ["large", "small", "ring"][: len(cells)]
    rng.shuffle(names)
    return dict(zip(cells, names, strict=True)) | {"hairlines": str(rng.randint(1, 6))}


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (14, 14, 18), noise=9.0)
    grey = int(canvas.rng.integers(60, 95))
    left, top, right, bottom = (int(n) for n in canvas.rng.integers(0, 9, 4))
    body = (left, top, SIDE - right, SIDE - bottom)
    canvas.pen.ellipse(body, fill=(grey, grey, grey + 4), outline=(grey + 50, grey + 50, grey + 50))
    canvas.marks(int(scene.facts["hairlines"]), (0, SIDE), strength=4)
    for cell in occupied(scene.facts):
        canvas.glyph(cell, scene.facts[cell], (225, 225, 230))
    return canvas.finish()


# spot_cell


def _pick_spot(facts: Facts, rng: Random) -> Args | None:
    return choose(rng, [{"finding": facts[cell]} for cell in occupied(facts)])


def _spot(facts: Facts, args: Args) -> Work:
    finding = args["finding"]
    (cell,) = cells_with(facts, finding)
    return Work(f"{finding} spot", f"{finding} {cell}", f"{finding} is {cell}", cell)


def _spot_other(facts: Facts, args: Args) -> Work:
    return _spot(facts, {"finding": OTHER_FINDING[args["finding"]]})


# hairline_count


def _pick_always(facts: Facts, rng: Random) -> Args | None:
    return {}


def _hairlines(facts: Facts, args: Args) -> Work:
    total = facts["hairlines"]
    return Work("count hairlines", f"marks {total}", f"makes {total}", total)


def _hairlines_one_more(facts: Facts, args: Args) -> Work:
    return _hairlines({"hairlines": str(int(facts["hairlines"]) + 1)}, args)


CATEGORY = Category(
    name="medical",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="spot_cell",
            description="locate a finding of a given kind in a scan",
            kind="text",
            phrasings=(
                "In which cell is the {finding} spot?",
                "Where does the scan show the {finding} spot?",
                "Give the cell of the {finding} spot.",
            ),
            pick=_pick_spot,
            work=_spot,
            rules=(WrongRule("other_finding", "misunderstanding", _spot_other),),
        ),
        Skill(
            name="hairline_count",
            description="count the faint hairline marks of a scan",
            kind="number",
            phrasings=(
                "How many hairline marks does the scan show?",
                "Count the hairline marks in this scan.",
                "What is the number of hairline marks here?",
            ),
            pick=_pick_always,
            work=_hairlines,
            rules=(WrongRule("sees_one_more", "visual_recognition", _hairlines_one_more),),
        ),
    ),
)
