"""Flow charts: four coloured boxes on a ring, joined by three arrows into one chain."""

from random import Random

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
    occupied,
)
from dpe_ray.micro.world.paint import INK, Canvas, arrow

RING = ((0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""(column, row) offsets clockwise: boxes at even places, arrows at odd ones."""
CLOCKWISE = {1: "right", 3: "down", 5: "left", 7: "up"}
REVERSED = {"right": "left", "left": "right", "up": "down", "down": "up"}


def _make(level: int, rng: Random) -> Facts:
    left, top, start, turn = rng.randint(0, 1), rng.randint(0, 1), rng.randrange(0, 8, 2), rng.choice((1, -1))
    colours = rng.sample(list(INK), 4)
    facts: Facts = {}
    for step in range(7):
        place = (start + turn * step) % 8
        column, row = RING[place]
        cell = COLUMNS[left + column] + ROWS[top + row]
        direction = CLOCKWISE.get(place, "")
        facts[cell] = f"{colours[step // 2]} box" if step % 2 == 0 else _arrow(direction, turn)
    return facts | {"chain": " ".join(colours)}


def _arrow(direction: str, turn: int) -> str:
    return f"arrow {direction if turn == 1 else REVERSED[direction]}"


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (222, 234, 246), noise=1.0 + 2 * scene.level)
    for cell in occupied(scene.facts):
        first, second = scene.facts[cell].split()
        x, y = canvas.centre(cell)
        if first == "arrow":
            arrow(canvas.pen, x, y, second, canvas.shade((40, 40, 40)))
        else:
            fill = canvas.shade(INK[first])
            canvas.pen.rectangle((x - 6, y - 5, x + 6, y + 5), fill=fill, outline=(20, 20, 20))
    return canvas.finish()


def _cell_label(facts: Facts, cell: str) -> str:
    """Label a cell; boxes with their place in the chain, 1 to 4, which the picture gives only as a whole."""
    label = facts.get(cell, "empty")
    colour, word = (label + " ").split(" ", 1)
    return f"{colour} {facts['chain'].split().index(colour) + 1}" if word.strip() == "box" else label


# next_box


def _listed(chain: list[str]) -> str:
    """The boxes from first to last, with their places."""
    return " ".join(f"{place} {colour}" for place, colour in enumerate(chain, start=1))


def _pick_middle(facts: Facts, rng: Random) -> Args | None:
    return {"colour": rng.choice(facts["chain"].split()[1:3])}


def _next(facts: Facts, args: Args) -> Work:
    chain = facts["chain"].split()
    here = chain.index(args["colour"])
    if not 0 < here < 3:
        raise ValueError(f"{args['colour']} has no box on both sides")
    return Work(f"after {chain[here]}", _listed(chain), f"next is {chain[here + 1]}", chain[here + 1])


def _next_backwards(facts: Facts, args: Args) -> Work:
    chain = facts["chain"].split()
    before = chain[chain.index(args["colour"]) - 1]
    return _next(facts, args)._replace(conclusion=f"next is {before}", answer=before)


# two_steps


def _pick_early(facts: Facts, rng: Random) -> Args | None:
    return {"colour": rng.choice(facts["chain"].split()[:2])}


def _two_steps(facts: Facts, args: Args) -> Work:
    chain = facts["chain"].split()
    start = chain.index(args["colour"])
    if start > 1:
        raise ValueError(f"no two arrows follow {args['colour']}")
    return Work(f"two after {chain[start]}", _listed(chain), f"end is {chain[start + 2]}", chain[start + 2])


def _two_steps_early(facts: Facts, args: Args) -> Work:
    chain = facts["chain"].split()
    middle = chain[chain.index(args["colour"]) + 1]
    return _two_steps(facts, args)._replace(conclusion=f"end is {middle}", answer=middle)


CATEGORY = Category(
    name="diagram",
    make=_make,
    paint=_paint,
    cell_label=_cell_label,
    skills=(
        Skill(
            name="next_box",
            description="follow one arrow of a flow chart",
            kind="text",
            phrasings=(
                "Which box comes right after the {colour} box?",
                "Where does the arrow from the {colour} box lead?",
                "What colour is the box that follows {colour}?",
            ),
            pick=_pick_middle,
            work=_next,
            rules=(WrongRule("backwards", "reasoning", _next_backwards),),
        ),
        Skill(
            name="two_steps",
            description="follow two arrows of a flow chart",
            kind="text",
            phrasings=(
                "Which box lies two arrows after the {colour} box?",
                "Start at {colour} and follow two arrows: where do you end?",
                "Going two steps on from the {colour} box, which box is reached?",
            ),
            pick=_pick_early,
            work=_two_steps,
            rules=(WrongRule("stops_early", "reasoning", _two_steps_early),),
        ),
    ),
)
