"""Mosaics: sixteen tiles, each a colour with a pattern."""

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
    plain_label,
)
from dpe_ray.micro.world.paint import CELL, INK, Canvas, Colour

COLOURS = ("red", "green", "blue", "yellow")
PATTERNS = ("stripes", "dots", "checks", "plain")
NEXT_PATTERN = dict(zip(PATTERNS, PATTERNS[1:] + PATTERNS[:1], strict=True))


def _make(level: int, rng: Random) -> Facts:
    palette = rng.sample(COLOURS, level + 1)
    return {cell: f"{rng.choice(palette)} {rng.choice(PATTERNS)}" for cell in CELLS}


def _paint(scene: Scene) -> Image.Image:
    canvas = Canvas(scene.seed, (120, 110, 100), noise=6.0)
    for cell in CELLS:
        colour, pattern = scene.facts[cell].split()
        _tile(canvas, cell, canvas.shade(INK[colour]), pattern)
    return canvas.finish()


def _tile(canvas: Canvas, cell: str, ink: Colour, pattern: str) -> None:
    x, y = COLUMNS.index(cell[0]) * CELL, ROWS.index(cell[1]) * CELL
    light = canvas.shade((245, 240, 228), 8)
    canvas.pen.rectangle((x, y, x + 15, y + 15), fill=ink)
    if pattern == "stripes":
        for dy in range(2, 16, 6):
            canvas.pen.rectangle((x, y + dy, x + 15, y + dy + 1), fill=light)
    elif pattern == "dots":
        for dx, dy in ((3, 3), (11, 3), (3, 11), (11, 11), (7, 7)):
            canvas.pen.rectangle((x + dx, y + dy, x + dx + 2, y + dy + 2), fill=light)
    elif pattern == "checks":
        canvas.pen.rectangle((x, y, x + 7, y + 7), fill=light)
        canvas.pen.rectangle((x + 8, y + 8, x + 15, y + 15), fill=light)


# tile_pattern


def _pick_tile(facts: Facts, rng: Random) -> Args | None:
    return {"cell": rng.choice(CELLS)}


def _pattern(facts: Facts, args: Args) -> Work:
    cell = args["cell"]
    pattern = facts[cell].split()[1]
    return Work(f"pattern at {cell}", f"{cell} {pattern}", f"it has {pattern}", pattern)


def _pattern_confused(facts: Facts, args: Args) -> Work:
    colour, pattern = facts[args["cell"]].split()
    return _pattern({args["cell"]: f"{colour} {NEXT_PATTERN[pattern]}"}, args)


# row_colour


def _line(facts: Facts, name: str) -> list[str]:
    """Colours of a row (`1`..`4`) or of a column (`a`..`d`)."""
    return [facts[cell].split()[0] for cell in CELLS if name in cell]


def _listed(facts: Facts, name: str) -> str:
    """Cells of a row or column, each with its colour."""
    return " ".join(f"{cell} {facts[cell].split()[0]}" for cell in CELLS if name in cell)


def _mode(colours: list[str]) -> str:
    """Return the most frequent colour, or "" if two share the lead."""
    ranked = sorted(set(colours), key=colours.count, reverse=True)
    tied = len(ranked) > 1 and colours.count(ranked[0]) == colours.count(ranked[1])
    return "" if tied else ranked[0]


def _crossing(row: str) -> str:
    """Return the column a reader lands in who takes the row number along the wrong axis."""
    return COLUMNS[ROWS.index(row)]


def _pick_line(facts: Facts, rng: Random) -> Args | None:
    pairs = [(row, _mode(_line(facts, row)), _mode(_line(facts, _crossing(row)))) for row in ROWS]
    return choose(rng, [{"row": row} for row, here, there in pairs if here and there and here != there])


def _row_colour(facts: Facts, args: Args) -> Work:
    return _line_colour(facts, "row", args["row"])


def _line_colour(facts: Facts, axis: str, name: str) -> Work:
    colours = _line(facts, name)
    top = _mode(colours)
    if not top:
        raise ValueError(f"no single colour leads in {name}")
    return Work(f"colours of {axis} {name}", _listed(facts, name), f"most is {top}", top)


def _column_colour(facts: Facts, args: Args) -> Work | None:
    return _line_colour(facts, "column", _crossing(args["row"]))


# mirror_row


def _pick_row(facts: Facts, rng: Random) -> Args | None:
    return {"row": rng.choice(ROWS)}


def _mirror(facts: Facts, args: Args) -> Work:
    colours = _line(facts, args["row"])
    if not colours:
        raise KeyError(args["row"])
    word = "yes" if colours == colours[::-1] else "no"
    return Work(f"mirror of row {args['row']}", _listed(facts, args["row"]), f"mirrored {word}", word)


def _mirror_inverted(facts: Facts, args: Args) -> Work:
    word = {"yes": "no", "no": "yes"}[_mirror(facts, args).answer]
    return _mirror(facts, args)._replace(conclusion=f"mirrored {word}", answer=word)


CATEGORY = Category(
    name="artistic",
    make=_make,
    paint=_paint,
    cell_label=plain_label,
    skills=(
        Skill(
            name="tile_pattern",
            description="name the pattern of a mosaic tile",
            kind="choice",
            phrasings=(
                "Which pattern fills the tile at {cell}?",
                "What pattern does tile {cell} have?",
                "How is the tile at {cell} decorated?",
            ),
            pick=_pick_tile,
            work=_pattern,
            rules=(WrongRule("patterns_confused", "visual_recognition", _pattern_confused),),
            options=PATTERNS,
        ),
        Skill(
            name="row_colour",
            description="find the most frequent colour in a row of a mosaic",
            kind="text",
            phrasings=(
                "Which colour appears most often in row {row}?",
                "What is the main colour of row {row}?",
                "Name the most frequent colour along row {row}.",
            ),
            pick=_pick_line,
            work=_row_colour,
            rules=(WrongRule("column_for_row", "misunderstanding", _column_colour),),
        ),
        Skill(
            name="mirror_row",
            description="tell whether a row of a mosaic is its own mirror image in colour",
            kind="text",
            phrasings=(
                "Does row {row} read the same from both ends, yes or no?",
                "Is row {row} mirrored about its middle, yes or no?",
                "Yes or no: are both halves of row {row} mirror images?",
            ),
            pick=_pick_row,
            work=_mirror,
            rules=(WrongRule("inverted", "reasoning", _mirror_inverted),),
        ),
    ),
)
