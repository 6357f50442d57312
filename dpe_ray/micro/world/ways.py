"""How each skill's answer is worked out in fine steps, from the facts that are stated.

A way is a generator that yields one line at a time and is sent back the value that now stands in the text: the right
one when a rationale is told, a wrong one where it slips, the one that was read when a rationale is followed. What comes
later is worked out from what was sent, so that one program tells, slips and reads. Where stated facts do not suffice it
raises KeyError, IndexError or ValueError.
"""

import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dpe_ray.micro.world import artistic, everyday_object, geometric, map_view, medical, natural_scene
from dpe_ray.micro.world.base import CELLS, COLUMNS, ROWS, Args, shift
from dpe_ray.micro.world.paint import INK

DIGITS = tuple("0123456789")


class Line(NamedTuple):
    """One step of working: words with a gap `{}`, what belongs there, and what a slip may put there."""

    words: str
    value: str
    others: tuple[str, ...] = ()
    """Empty where no slip is sensible."""


Stated = Mapping[str, str]
"""Facts in the order in which they are stated: cell -> label, landmark -> cell, colour -> height, place -> colour."""
Working = Generator[Line, str, str]
"""Yields lines, is sent values, returns the answer as a value."""


@dataclass(frozen=True)
class Way:
    """How one skill is told in fine steps."""

    key: str
    """Pattern of what a fact is about."""
    value: str
    """Pattern of what a fact says."""
    work: Callable[[Args, Stated], Working]
    is_open: bool = False
    """The question does not say how many facts there are: only when working has begun are they complete."""
    is_bare: bool = False
    """A list of keys alone is a statement too."""

    def facts(self, text: str) -> dict[str, str]:
        """Read a text that states facts and nothing else; empty for any other."""
        fact = rf"({self.key})(?: ({self.value})){'?' if self.is_bare else ''}"
        if not re.fullmatch(rf"{fact}(?: {fact})*", text):
            return {}
        return {found[1]: found[2] or "" for found in re.finditer(fact, text)}


def _look(words: str, others: Iterable[str] = ()) -> Callable[[Args, Stated], Working]:
    """The one fact is the answer; a number where no `others` are given."""

    def work(args: Args, stated: Stated) -> Working:
        (value,) = stated.values()
        return (yield _line(words, value, tuple(others) or _near(value)))

    return work


def _spot(args: Args, stated: Stated) -> Working:
    (cell,) = stated.values()
    return (yield _line(f"{args['finding']} is {{}}", cell, CELLS))


def _hour(args: Args, stated: Stated) -> Working:
    hours = {colour: hour for hour, (colour, _) in natural_scene.SKIES.items()}
    return (yield _line("so {}", hours[stated["sky"]], hours.values()))


def _count(args: Args, stated: Stated) -> Working:
    thing = args.get("shape") or args["thing"]
    total = 0
    for cell, label in stated.items():
        # a list of bare cells names only those that count
        if not label or thing in label.split():
            total = int((yield _line(f"{cell} makes {{}}", total + 1, _near(total + 1))))
    return (yield _line("makes {}", total, _near(total)))


def _sum(args: Args, stated: Stated) -> Working:
    first, second = stated.values()
    start = yield _line("start with {}", first, _near(first))
    total = yield from _equation(start, "+", second)
    return (yield _line("makes {}", total, _near(total)))


def _difference(args: Args, stated: Stated) -> Working:
    high, low = stated.values()
    gap = yield from _equation(high, "-", low)
    return (yield _line("makes {}", gap, _near(gap)))


def _formula(args: Args, stated: Stated) -> Working:
    first, sign, second, *_ = stated.values()
    value = yield from _equation(first, sign, second)
    return (yield _line("makes {}", value, _near(value)))


def _parity(args: Args, stated: Stated) -> Working:
    first, sign, second, *_ = stated.values()
    value = yield from _equation(first, sign, second)
    return (yield _line(f"{value} is {{}}", "odd" if int(value) % 2 else "even", ("odd", "even")))


def _equation(first: str, sign: str, second: str) -> Working:
    p, q = int(first), int(second)
    value = {"+": p + q, "-": p - q, "x": p * q}[sign]
    return (yield _line(f"{p} {sign} {q} = {{}}", value, _near(value)))


def _tallest(args: Args, stated: Stated) -> Working:
    best, *others = _four(stated)
    for other in others:
        taller, lower = sorted((best, other), key=lambda name: -int(stated[name]))
        winner = taller if args["extreme"] == "tallest" else lower
        best = yield _line(f"{args['extreme']} of {best} and {other} is {{}}", winner, (best, other))
    return (yield _line(f"{stated[best]} is {{}}", best, stated))


def _largest(args: Args, stated: Stated) -> Working:
    best, *others = stated.values()
    choose = {"largest": max, "smallest": min}[args["extreme"]]
    for other in others:
        best = yield _line(f"{args['extreme']} of {best} and {other} is {{}}", choose(best, other), (best, other))
    return (yield _line(f"{args['extreme']} is {{}}", best, stated.values()))


def _next(args: Args, stated: Stated) -> Working:
    here = yield _line(f"{args['colour']} is box {{}}", _place(stated, args["colour"]), "123")
    then = yield _line(f"after box {here} comes box {{}}", int(here) + 1, stated)
    found = yield _line(f"box {then} is {{}}", stated[then], stated.values())
    return (yield _line("next is {}", found, stated.values()))


def _two_on(args: Args, stated: Stated) -> Working:
    here = yield _line(f"{args['colour']} is box {{}}", _place(stated, args["colour"]), "12")
    for arrow in ("first", "second"):
        here = yield _line(f"{arrow} arrow leads to box {{}}", int(here) + 1, stated)
    found = yield _line(f"box {here} is {{}}", stated[here], stated.values())
    return (yield _line("end is {}", found, stated.values()))


def _beside(args: Args, stated: Stated) -> Working:
    side, thing = args["side"], args["thing"]
    here = yield _line(f"{thing} is at {{}}", _place(stated, thing), stated)
    there = yield _line(f"{side} of {here} is {{}}", shift(here, -1 if side == "left" else 1), stated)
    found = yield _line(f"{there} holds {{}}", stated[there], stated.values())
    return (yield _line(f"{side} is {{}}", found, stated.values()))


def _side(args: Args, stated: Stated) -> Working:
    (first, p), (second, q) = stated.items()
    here = yield _line(f"{first} in column {{}}", p[0], COLUMNS)
    there = yield _line(f"{second} in column {{}}", q[0], COLUMNS)
    order = yield _line(f"{here} is {{}} {there}", _order(here, there, "before", "after"), ("before", "after"))
    return (yield _line("so {}", "left" if order == "before" else "right", ("left", "right")))


def _direction(args: Args, stated: Stated) -> Working:
    (first, p), (second, q) = stated.items()
    axis = _axis(p, q)
    here, there = yield from _positions(first, p[axis], second, q[axis])
    words = ("north", "south") if axis else ("west", "east")
    found = yield _line(f"{p} is {{}} of {q}", _order(here, there, *words), words)
    return (yield _line("so {}", found, map_view.OPPOSITE))


def _distance(args: Args, stated: Stated) -> Working:
    (first, p), (second, q) = stated.items()
    axis = _axis(p, q)
    low, high = sorted((yield from _positions(first, p[axis], second, q[axis])))
    gap = yield _line(f"{high} - {low} = {{}}", ord(high) - ord(low), _near(ord(high) - ord(low)))
    return (yield _line("makes {}", gap, _near(gap)))


def _positions(first: str, p: str, second: str, q: str) -> Generator[Line, str, tuple[str, str]]:
    line = ROWS if p in ROWS else COLUMNS
    here = yield _line(f"{first} at {{}}", p, line)
    there = yield _line(f"{second} at {{}}", q, line)
    return here, there


def _most(args: Args, stated: Stated) -> Working:
    colours = [stated[cell] for cell in _four(stated)]
    counts: dict[str, int] = {}
    for colour in dict.fromkeys(colours):
        many = colours.count(colour)
        counts[colour] = int((yield _line(f"{colour} makes {{}}", many, _near(many))))
    top = max(counts, key=lambda name: counts[name])
    if list(counts.values()).count(counts[top]) > 1:
        raise ValueError(f"no single colour leads in {counts}")
    return (yield _line("most is {}", top, counts))


def _mirror(args: Args, stated: Stated) -> Working:
    cells, verdicts = _four(stated), []
    for p, q in ((cells[0], cells[3]), (cells[1], cells[2])):
        same = "match" if stated[p] == stated[q] else "differ"
        verdicts.append((yield _line(f"{p} and {q} {{}}", same, ("match", "differ"))))
    return (yield _line("mirrored {}", "no" if "differ" in verdicts else "yes", ("yes", "no")))


def _line(words: str, value: object, others: Iterable[str] = ()) -> Line:
    return Line(words, str(value), tuple(other for other in dict.fromkeys(others) if other != str(value)))


def _near(value: object) -> tuple[str, ...]:
    """Whole numbers next to one, not below 0."""
    return tuple(str(n) for n in (int(str(value)) - 1, int(str(value)) + 1) if n >= 0)


def _place(stated: Stated, label: str) -> str:
    """What the fact with this label is about."""
    return {found: place for place, found in stated.items()}[label]


def _four(stated: Stated) -> list[str]:
    first, second, third, fourth = stated
    return [first, second, third, fourth]


def _axis(p: str, q: str) -> int:
    """1 in one column, 0 in one row."""
    if p == q or (p[0] != q[0] and p[1] != q[1]):
        raise ValueError(f"{p} and {q} do not lie on one line")
    return 1 if p[0] == q[0] else 0


def _order(here: str, there: str, before: str, after: str) -> str:
    if here == there:
        raise ValueError(f"both at {here}")
    return before if here < there else after


def _words(*groups: Iterable[str]) -> str:
    """One word of each group, as a pattern."""
    return " ".join("(?:" + "|".join(group) + ")" for group in groups)


_CELL, _COLOUR, _DIGIT = "[a-d][1-4]", _words(INK), r"\d"
_TILE_COLOUR = _words(artistic.COLOURS)
_LANDMARK = _words(map_view.LANDMARKS)

WAYS: dict[str, Way] = {
    "shape_colour": Way(_CELL, _COLOUR, _look("it is {}", INK)),
    "count_shape": Way(_CELL, _words(INK, geometric.SHAPES), _count, is_open=True, is_bare=True),
    "side_of": Way(_words(INK, geometric.SHAPES), _CELL, _side),
    "spot_cell": Way(_words(medical.FINDINGS), _CELL, _spot),
    "hairline_count": Way("marks", _DIGIT, _look("makes {}")),
    "extreme_bar": Way(_COLOUR, _DIGIT, _tallest),
    "bar_difference": Way(_COLOUR, _DIGIT, _difference),
    "read_digit": Way(_CELL, _DIGIT, _look("it reads {}", DIGITS)),
    "digit_sum": Way(_CELL, _DIGIT, _sum),
    "row_extreme": Way(_CELL, _DIGIT, _largest, is_open=True),
    "next_box": Way(_DIGIT, _COLOUR, _next),
    "two_steps": Way(_DIGIT, _COLOUR, _two_on),
    "formula_value": Way(_CELL, r"(?:\d|[-+x])", _formula),
    "formula_parity": Way(_CELL, r"(?:\d|[-+x])", _parity),
    "landmark_direction": Way(_LANDMARK, _CELL, _direction),
    "landmark_distance": Way(_LANDMARK, _CELL, _distance),
    "count_things": Way(_CELL, _words(natural_scene.THINGS), _count, is_open=True, is_bare=True),
    "time_of_day": Way("sky", _words([colour for colour, _ in natural_scene.SKIES.values()]), _hour),
    "speck_count": Way("specks", _DIGIT, _look("makes {}")),
    "tile_pattern": Way(_CELL, _words(artistic.PATTERNS), _look("it has {}", artistic.PATTERNS)),
    "row_colour": Way(_CELL, _TILE_COLOUR, _most),
    "mirror_row": Way(_CELL, _TILE_COLOUR, _mirror),
    "object_at": Way(_CELL, _words(everyday_object.OBJECTS), _look("it is {}", everyday_object.OBJECTS)),
    "beside_object": Way(_CELL, _words(everyday_object.OBJECTS), _beside),
}
"""The way of every skill."""
