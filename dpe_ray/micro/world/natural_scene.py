"""Landscapes: sky in rows 1 and 2 with the colour of the hour, land below."""

from random import Random

from PIL import Image

from dpe_ray.micro.world.base import (
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
)
from dpe_ray.micro.world.paint import Canvas, Colour

SKIES: dict[str, tuple[str, Colour]] = {
    "day": ("blue", (130, 185, 240)),
    "night": ("dark", (18, 22, 52)),
    "dusk": ("orange", (236, 150, 80)),
    "fog": ("grey", (176, 178, 180)),
}
"""What the scene shows -> name and colour of the sky."""
SWAPPED = {"day": "night", "night": "day", "dusk": "fog", "fog": "dusk"}
THINGS: dict[str, Colour] = {
    "bird": (120, 20, 20),
    "cloud": (250, 250, 250),
    "tree": (10, 80, 30),
    "flower": (240, 70, 160),
    "rock": (90, 85, 80),
}
SKY_CELLS = tuple(c + r for r in "12" for c in "abcd")
LAND_CELLS = tuple(c + r for r in "34" for c in "abcd")


def _make(level: int, rng: Random) -> Facts:
    facts = {cell: rng.choice(("bird", "cloud")) for cell in rng.sample(SKY_CELLS, level + 1)}
    facts |= {cell: rng.choice(("tree", "flower", "rock")) for cell in rng.sample(LAND_CELLS, level + 3)}
    return facts | {"sky": rng.choice(list(SKIES)), "specks": str(rng.randint(1, 6))}


def _paint(scene: Scene) -> Image.Image:
    name, colour = SKIES[scene.facts["sky"]]
    canvas = Canvas(scene.seed, colour, noise=8.0)
    horizon = 31 + int(canvas.rng.integers(0, 3))
    canvas.pen.rectangle((0, horizon, 64, 64), fill=canvas.shade((90, 150, 70) if name != "dark" else (50, 90, 50)))
    canvas.marks(int(scene.facts["specks"]), (0, 30), strength=4)
    for cell in occupied(scene.facts):
        canvas.glyph(cell, scene.facts[cell], THINGS[scene.facts[cell]])
    return canvas.finish()


def _cell_label(facts: Facts, cell: str) -> str:
    bare = f"{SKIES[facts['sky']][0]} sky" if cell in SKY_CELLS else "empty"
    return facts.get(cell, bare)


# count_things


def _pick_thing(facts: Facts, rng: Random) -> Args | None:
    return choose(rng, [{"thing": thing} for thing in THINGS if 1 <= len(cells_with(facts, thing)) <= 4])


def _count(facts: Facts, args: Args) -> Work:
    if args["thing"] not in THINGS:
        raise ValueError(f"no such thing as a {args['thing']}")
    return _tally(args["thing"], cells_with(facts, args["thing"]))


def _tally(thing: str, cells: list[str], extra: int = 0) -> Work:
    total = str(len(cells) + extra)
    return Work(f"count {thing}", " ".join(cells) or "none", f"makes {total}", total)


def _count_misses_last(facts: Facts, args: Args) -> Work:
    return _tally(args["thing"], cells_with(facts, args["thing"])[:-1])


def _count_one_more(facts: Facts, args: Args) -> Work:
    return _tally(args["thing"], cells_with(facts, args["thing"]), extra=1)


# time_of_day


def _pick_always(facts: Facts, rng: Random) -> Args | None:
    return {}


def _hour(facts: Facts, args: Args) -> Work:
    shown = facts["sky"]
    return Work("look of sky", f"sky {SKIES[shown][0]}", f"so {shown}", shown)


def _hour_swapped(facts: Facts, args: Args) -> Work:
    word = SWAPPED[facts["sky"]]
    return _hour(facts, args)._replace(conclusion=f"so {word}", answer=word)


# speck_count


def _specks(facts: Facts, args: Args) -> Work:
    total = facts["specks"]
    return Work("count specks", f"specks {total}", f"makes {total}", total)


def _specks_one_more(facts: Facts, args: Args) -> Work:
    return _specks({"specks": str(int(facts["specks"]) + 1)}, args)


CATEGORY = Category(
    name="natural_scene",
    make=_make,
    paint=_paint,
    cell_label=_cell_label,
    skills=(
        Skill(
            name="count_things",
            description="count the things of one kind in a landscape",
            kind="number",
            phrasings=(
                "How many {thing}s does the landscape hold?",
                "Count every {thing} in the scene.",
                "What number of {thing}s can be seen?",
            ),
            pick=_pick_thing,
            work=_count,
            rules=(
                WrongRule("misses_last", "visual_recognition", _count_misses_last),
                WrongRule("one_more", "calculation", _count_one_more),
            ),
        ),
        Skill(
            name="time_of_day",
            description="tell the hour or weather from the sky",
            kind="choice",
            phrasings=(
                "What does the sky of the scene tell?",
                "Which hour or weather does the landscape show?",
                "Judging by the sky, what is it?",
            ),
            pick=_pick_always,
            work=_hour,
            rules=(WrongRule("swapped", "reasoning", _hour_swapped),),
            options=tuple(SKIES),
        ),
        Skill(
            name="speck_count",
            description="count the faint specks in the sky",
            kind="number",
            phrasings=(
                "How many faint specks are in the sky?",
                "Count the faint specks of the sky.",
                "What is the number of faint specks above the land?",
            ),
            pick=_pick_always,
            work=_specks,
            rules=(WrongRule("sees_one_more", "visual_recognition", _specks_one_more),),
        ),
    ),
)
