"""Directed graphs on a circle: neighbours and shortest ways. Checked by looking for a line along every chord."""

import math
import re
from itertools import permutations
from random import Random
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, COLOURS, Point, blank, write
from dpe_ray.supply.construct.labels import Label, distinct
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid, scaled
from dpe_ray.supply.construct.task import Shown, Task, Undrawable
from dpe_ray.supply.construct.words import NAMES, PLACES
from dpe_ray.types import AnswerKind

SIDE, RING, NODE = 720, 262, 44
"""Of the picture, the circle that carries the nodes and a node, in pixels."""
NODE_COLOUR, LINE, HEAD = (190, 215, 250), (70, 70, 70), COLOURS["red"]

Index = Annotated[int, Field(ge=0, le=7)]


class ArrowGraphParams(Params):
    """3-8 named nodes and the arrows between them."""

    ask: Literal["count_outgoing", "count_incoming", "shortest_path_length", "common_successor"]
    nodes: Annotated[tuple[Label, ...], Field(min_length=3, max_length=8)]
    arrows: Annotated[tuple[tuple[Index, Index], ...], Field(min_length=1, max_length=20)]
    """[from, to] by place in `nodes`, from 0; at most one arrow between two nodes."""
    start: Index = 0
    """Node that is asked about."""
    end: Index = 1
    """Where a way ends, or the other node of two."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        distinct(self.nodes)
        pairs = [frozenset(arrow) for arrow in self.arrows]
        if len(set(pairs)) < len(pairs) or any(len(pair) < 2 for pair in pairs):
            raise ValueError("two arrows join the same nodes, or one leads back to its own")
        if max(self.start, self.end, *(at for arrow in self.arrows for at in arrow)) >= len(self.nodes):
            raise ValueError("an arrow or a question names a node that is not there")
        if self.start == self.end:
            raise ValueError("start and end are the same node")
        if self.ask == "shortest_path_length" and _steps(self) is None:
            raise ValueError("no way leads from start to end")
        if self.ask == "common_successor" and len(_common(self)) != 1:
            raise ValueError("start and end must both have an arrow to exactly one node")
        return self


class ArrowGraph(Program[ArrowGraphParams]):
    """Nodes on a circle, so that no arrow passes a third node."""

    name = "arrow_graph"
    summary = "A diagram of named nodes on a circle joined by arrows."
    categories = ("diagram",)
    params = ArrowGraphParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> ArrowGraphParams:
        """As `Program.sample`: more nodes and arrows are harder."""
        count = scaled(4, 8, difficulty)

        def attempt() -> ArrowGraphParams:
            pairs = [pair for pair in permutations(range(count), 2) if pair[0] < pair[1]]
            chosen = rng.sample(pairs, min(len(pairs), scaled(5, 14, difficulty)))
            start, end = rng.sample(range(count), 2)
            return ArrowGraphParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                nodes=rng.choice((NAMES, PLACES))[:count],
                arrows=tuple(pair if rng.random() < 0.5 else pair[::-1] for pair in chosen),
                start=start,
                end=end,
            )

        return first_valid(attempt)

    def make(self, params: ArrowGraphParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        picture = _draw(params)
        start, end = params.nodes[params.start], params.nodes[params.end]
        if params.ask == "common_successor":
            answer_name = params.nodes[_common(params).pop()]
            question = f'To which node do both "{start}" and "{end}" have an arrow?'
            wrong = [name for name in params.nodes if name not in (answer_name, start, end)] or [start, end]
            rng.shuffle(wrong)
            why = f'"{start}" and "{end}" both lead to "{answer_name}".'
            return Task(picture, question, answer_name, AnswerKind.TEXT, why, (*wrong, start, end))
        if params.ask == "shortest_path_length":
            answer = _steps(params) or 0
            question = f'Along how many arrows does the shortest way lead from "{start}" to "{end}"?'
            why = f"No way has fewer than {answer}."
            wrong_numbers = near(answer, rng, least=1)
        else:
            inward = params.ask == "count_incoming"
            answer = sum(arrow[inward] == params.start for arrow in params.arrows)
            question = f'How many arrows {"end at" if inward else "begin at"} "{start}"?'
            others = [params.nodes[a[not inward]] for a in params.arrows if a[inward] == params.start]
            why = f"{'From' if inward else 'To'}: {', '.join(others) or 'none'}. That makes {answer}."
            wrong_numbers = near(answer, rng, slips=[sum(params.start in arrow for arrow in params.arrows)])
        return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong_numbers)

    def check(self, params: ArrowGraphParams, shown: Shown) -> str:
        """As `Program.check`: arrows are found in the picture; ways by powers of their matrix."""
        arrows = _found(shown.pixels, len(params.nodes))
        named = [params.nodes.index(name) for name in re.findall(r'"([^"]+)"', shown.question)]
        if "both" in shown.question:
            return params.nodes[int(np.flatnonzero(arrows[named[0]] & arrows[named[1]])[0])]
        if "shortest way" in shown.question:
            reached = np.linalg.matrix_power
            steps = (n for n in range(1, len(arrows)) if reached(arrows.astype(int), n)[named[0], named[1]])
            return str(next(steps))
        return str(int((arrows[:, named[0]] if "end at" in shown.question else arrows[named[0]]).sum()))


def _steps(params: ArrowGraphParams) -> int | None:
    """Arrows of the shortest way, breadth first."""
    reached, front, steps = {params.start}, {params.start}, 0
    while front and params.end not in front:
        front = {b for a, b in params.arrows if a in front} - reached
        reached, steps = reached | front, steps + 1
    return steps if front else None


def _common(params: ArrowGraphParams) -> set[int]:
    after = [{b for a, b in params.arrows if a == node} for node in (params.start, params.end)]
    return after[0] & after[1]


def _places(count: int) -> list[Point]:
    turns = [2 * math.pi * at / count - math.pi / 2 for at in range(count)]
    return [(round(SIDE / 2 + RING * math.cos(t)), round(SIDE / 2 + RING * math.sin(t))) for t in turns]


def _draw(params: ArrowGraphParams) -> Image.Image:
    picture, draw = blank(SIDE, SIDE)
    places = _places(len(params.nodes))
    for a, b in params.arrows:
        draw.line((*places[a], *places[b]), LINE, 2)
    for a, b in params.arrows:
        _head(draw, places[a], places[b])
    for (x, y), name in zip(places, params.nodes, strict=True):
        draw.ellipse((x - NODE, y - NODE, x + NODE, y + NODE), NODE_COLOUR)
        write(draw, (x, y), name, 17, 2 * NODE - 6)
    return picture


def _head(draw: ImageDraw.ImageDraw, start: Point, end: Point) -> None:
    far = math.dist(start, end)
    if far < 2 * NODE + 30:
        raise Undrawable("two nodes lie too close for an arrow")
    dx, dy = (end[0] - start[0]) / far, (end[1] - start[1]) / far
    tip = (end[0] - dx * NODE, end[1] - dy * NODE)
    foot = (tip[0] - dx * 18, tip[1] - dy * 18)
    draw.polygon([tip, (foot[0] - dy * 6, foot[1] + dx * 6), (foot[0] + dy * 6, foot[1] - dx * 6)], HEAD, BLACK)


def _found(pixels: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """[from, to] Whether a head lies before the second node, on a line from the first."""
    places = _places(count)
    line, head = measure.where(pixels, LINE), measure.where(pixels, HEAD)
    either = line | head | measure.where(pixels, BLACK)
    found = np.zeros((count, count), bool)
    for a, b in permutations(range(count), 2):
        (xa, ya), (xb, yb) = places[a], places[b]
        far = math.dist(places[a], places[b])
        along = [(xa + (xb - xa) * t / far, ya + (yb - ya) * t / far) for t in range(NODE + 4, int(far) - NODE - 3)]
        joined = np.mean([_near(either, point) for point in along]) > 0.9
        pointed = np.mean([_near(head, point) for point in along[-10:]]) > 0.8
        found[a, b] = joined and pointed
    return found


def _near(mask: measure.Mask, point: Point) -> bool:
    x, y = round(point[0]), round(point[1])
    return bool(mask[y - 1 : y + 2, x - 1 : x + 2].any())
