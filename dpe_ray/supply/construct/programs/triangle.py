"""Triangles: angles that are computed or judged. Checked by measuring where the corners lie."""

import math
import re
from itertools import combinations
from random import Random
from typing import Annotated, Literal, Self

from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, COLOURS, Point, blank, write
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid
from dpe_ray.supply.construct.task import Shown, Task, Unsettled
from dpe_ray.types import AnswerKind

SIDE, RADIUS, CORNER = 560, 205, 5
"""Of the picture, the circumscribed circle and the corner dots, in pixels."""
CORNERS = ("red", "blue", "green")
SORTS = ("acute", "right", "obtuse")
CLEAR = 8
"""Degrees between the largest angle and 90, or the next angle, when the eye must tell them apart."""


class TriangleParams(Params):
    """A triangle by two of its angles."""

    ask: Literal["missing_angle", "classify_triangle", "longest_side", "exterior_angle"]
    alpha: Annotated[int, Field(ge=15, le=150)]
    """Angle at the first corner, in degrees."""
    beta: Annotated[int, Field(ge=15, le=150)]
    """Angle at the second corner; the third, 180 - alpha - beta, must be at least 15."""
    names: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "ABC"
    """Letters of the three corners, all different."""
    turned: Annotated[int, Field(ge=0, le=359)] = 0
    """Degrees."""

    @model_validator(mode="after")
    def _settled(self) -> Self:
        angles = sorted(_angles(self))
        if angles[0] < 15:
            raise ValueError("the third angle is below 15 degrees")
        if len(set(self.names)) < 3:
            raise ValueError("two corners have the same name")
        if self.ask == "classify_triangle" and angles[2] != 90 and abs(angles[2] - 90) < CLEAR:
            raise ValueError(f"an angle of {angles[2]} degrees cannot be told from a right one")
        if self.ask == "longest_side" and angles[2] - angles[1] < CLEAR:
            raise ValueError("two sides are about equally long")
        return self


class Triangle(Program[TriangleParams]):
    """One triangle with named corners."""

    name = "triangle"
    summary = "A triangle with named corners; two of its angles may be written beside them."
    categories = ("geometric",)
    params = TriangleParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> TriangleParams:
        """As `Program.sample`: round angles, upright, are easy."""
        step = 10 if difficulty < 0.3 else 5 if difficulty < 0.6 else 1

        def attempt() -> TriangleParams:
            alpha, beta = (rng.randrange(20, 131, step) for _ in range(2))
            if ask == "classify_triangle" and rng.random() < 0.3:
                beta = 90 - alpha if alpha <= 70 else 90
            return TriangleParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                alpha=alpha,
                beta=beta,
                names=rng.choice(("ABC", "PQR", "XYZ", "KLM")),
                turned=rng.randrange(360) if difficulty > 0.3 else 0,
            )

        return first_valid(attempt)

    def make(self, params: TriangleParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        a, b, c = tuple(params.names)
        alpha, beta, gamma = _angles(params)
        told = (f"{alpha}°", f"{beta}°", "?") if params.ask in ("missing_angle", "exterior_angle") else ("", "", "")
        picture = _draw(params, told)
        if params.ask == "missing_angle":
            question, answer = f"How many degrees has the angle at {c}?", gamma
            why = f"The angles sum to 180: 180 - {alpha} - {beta} = {gamma}."
            return _number(picture, question, answer, why, near(answer, rng, 5, 1, (alpha + beta, abs(90 - alpha))))
        if params.ask == "exterior_angle":
            question, answer = f"How many degrees has the exterior angle at {c}?", alpha + beta
            why = f"It equals the sum of the two other angles: {alpha} + {beta} = {answer}."
            return _number(picture, question, answer, why, near(answer, rng, 5, 1, (gamma, 180 - alpha)))
        if params.ask == "classify_triangle":
            largest = max(alpha, beta, gamma)
            sort = "right" if largest == 90 else "obtuse" if largest > 90 else "acute"
            why = f"The largest angle has {largest} degrees."
            question, wrong = (
                "By its largest angle, what sort of triangle is this?",
                tuple(s for s in SORTS if s != sort),
            )
            return Task(picture, question, sort, AnswerKind.TEXT, why, wrong, (f"{sort} triangle",))
        sides = {"".join(sorted(ends)): angle for ends, angle in ((b + c, alpha), (c + a, beta), (a + b, gamma))}
        longest = max(sides, key=lambda side: sides[side])
        why = f"{longest} lies opposite the largest angle, {sides[longest]} degrees."
        wrong = tuple(side for side in sides if side != longest)
        return Task(
            picture,
            "Which side of the triangle is the longest?",
            longest,
            AnswerKind.TEXT,
            why,
            wrong,
            (longest[::-1],),
        )

    def check(self, params: TriangleParams, shown: Shown) -> str:
        """As `Program.check`: angles between the lines from dot to dot."""
        dots = [measure.only(measure.blobs(measure.where(shown.pixels, COLOURS[c])), c) for c in CORNERS]
        place = dict(zip(params.names, ((dot.x, dot.y) for dot in dots), strict=True))
        if asked := re.search(r"(exterior )?angle at ([A-Z])", shown.question):
            inner = measure.whole(_measured(place, asked[2]), "an angle", 0.4)
            return str(180 - inner if asked[1] else inner)
        if "sort of triangle" in shown.question:
            largest = max(_measured(place, name) for name in place)
            if CLEAR / 4 < abs(largest - 90) < CLEAR / 2:
                raise Unsettled(f"the largest angle measures {largest:.1f}")
            return "right" if abs(largest - 90) <= CLEAR / 4 else SORTS[2 * (largest > 90)]
        sides = {one + other: math.dist(place[one], place[other]) for one, other in combinations(sorted(place), 2)}
        return max(sides, key=lambda side: sides[side])


def _angles(params: TriangleParams) -> tuple[int, int, int]:
    return params.alpha, params.beta, 180 - params.alpha - params.beta


def _measured(place: dict[str, Point], name: str) -> float:
    """Degrees at a corner, by the law of cosines."""
    p, q = [place[other] for other in place if other != name]
    near_p, near_q, across = math.dist(place[name], p), math.dist(place[name], q), math.dist(p, q)
    return math.degrees(math.acos((near_p**2 + near_q**2 - across**2) / (2 * near_p * near_q)))


def _number(picture: Image.Image, question: str, answer: int, why: str, wrong: tuple[str, ...]) -> Task:
    return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong)


def _draw(params: TriangleParams, told: tuple[str, str, str]) -> Image.Image:
    """Corners lie on a circle: an inscribed angle is half of the arc that it sees."""
    alpha, _, gamma = _angles(params)
    arcs = (0, 2 * gamma, 2 * gamma + 2 * alpha)
    middle = SIDE / 2
    turns = [math.radians(params.turned + arc) for arc in arcs]
    corners = [(round(middle + RADIUS * math.cos(t)), round(middle + RADIUS * math.sin(t))) for t in turns]
    large, pen = blank(2 * SIDE, 2 * SIDE)
    pen.line([(2 * x, 2 * y) for x, y in (*corners, corners[0])], BLACK, 5)
    picture = large.resize((SIDE, SIDE), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    heart = (sum(x for x, _ in corners) / 3, sum(y for _, y in corners) / 3)
    for (x, y), colour, name, text, turn in zip(corners, CORNERS, params.names, told, turns, strict=True):
        draw.ellipse((x - CORNER, y - CORNER, x + CORNER, y + CORNER), COLOURS[colour])
        write(draw, (middle + (RADIUS + 24) * math.cos(turn), middle + (RADIUS + 24) * math.sin(turn)), name, 22)
        far = math.dist((x, y), heart) or 1.0
        write(draw, (x + (heart[0] - x) * 50 / far, y + (heart[1] - y) * 50 / far), text, 15)
    return picture
