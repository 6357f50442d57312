"""Maps: landmarks on a plan of land and roads; north is up."""

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
    choose,
    occupied,
    plain_label,
)
from dpe_ray.micro.world.paint import Canvas, Colour

LANDMARKS: dict[str, Colour] = {
    "house": (190, 60, 40),
    "lake": (60, 120, 220),
    "tower": (70, 70, 80),
    "tree": (30, 130, 50),
    "bridge": (130, 60, 150),
}
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}


def _make(level: int, rng: Random) -> Facts:
    names = rng.sample(list(LANDMARKS), level + 2)
    return dict(zip(rng.sample(CELLS, level + 2), names, strict=True))


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (226, 222, 190), noise=2.0 + scene.level)
    for horizontal in (True, False):
        place = int(canvas.rng.integers(0, 5)) * 16
        line = (0, place, 64, place) if horizontal else (place, 0, place, 64)
        canvas.pen.line(line, fill=canvas.shade((250, 250, 245)), width=3)
    for cell in occupied(scene.facts):
        canvas.glyph(cell, scene.facts[cell], LANDMARKS[scene.facts[cell]])
    return canvas.finish()


def _pick_aligned(facts: Facts, rng: Random) -> Args | None:
    cells = occupied(facts)
    pairs = [(p, q) for p in cells for q in cells if p != q and (p[0] == q[0] or p[1] == q[1])]
    return choose(rng, [{"place1": facts[p], "place2": facts[q]} for p, q in pairs])


def _locate(facts: Facts, args: Args) -> tuple[str, str, str]:
    """Cells of both places, and what step 2 says of them; raises ValueError if they share no line."""
    cells = {name: cell for cell, name in facts.items()}
    p, q = cells[args["place1"]], cells[args["place2"]]
    if p == q or (p[0] != q[0] and p[1] != q[1]):
        raise ValueError(f"{p} and {q} do not lie on one line")
    return p, q, f"{args['place1']} {p} {args['place2']} {q}"


# landmark_direction


def _direction(facts: Facts, args: Args) -> Work:
    p, q, seen = _locate(facts, args)
    word = ("north" if p[1] < q[1] else "south") if p[0] == q[0] else ("west" if p[0] < q[0] else "east")
    return Work(f"{args['place1']} from {args['place2']}", seen, f"{p} is {word} of {q}", word)


def _direction_opposite(facts: Facts, args: Args) -> Work:
    right = _direction(facts, args)
    word = OPPOSITE[right.answer]
    return right._replace(conclusion=right.conclusion.replace(right.answer, word), answer=word)


# landmark_distance


def _distance(facts: Facts, args: Args, extra: int = 0) -> Work:
    p, q, seen = _locate(facts, args)
    axis = 1 if p[0] == q[0] else 0
    low, high = sorted((p[axis], q[axis]))
    total = ord(high) - ord(low) + extra
    return Work(f"{args['place1']} to {args['place2']}", seen, f"{high} - {low} = {total}", str(total))


def _distance_fencepost(facts: Facts, args: Args) -> Work:
    return _distance(facts, args, extra=1)


CATEGORY = Category(
    name="map",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="landmark_direction",
            description="tell in which compass direction one landmark lies from another",
            kind="text",
            phrasings=(
                "In which direction does the {place1} lie from the {place2}?",
                "Seen from the {place2}, which way is the {place1}?",
                "Which compass direction leads from the {place2} to the {place1}?",
            ),
            pick=_pick_aligned,
            work=_direction,
            rules=(WrongRule("opposite", "reasoning", _direction_opposite),),
        ),
        Skill(
            name="landmark_distance",
            description="count the cells between two landmarks on one line",
            kind="number",
            phrasings=(
                "How many cells apart are the {place1} and the {place2}?",
                "How many steps is it from the {place1} to the {place2}?",
                "What is the distance in cells between the {place1} and the {place2}?",
            ),
            pick=_pick_aligned,
            work=_distance,
            rules=(WrongRule("fencepost", "calculation", _distance_fencepost),),
        ),
    ),
)
