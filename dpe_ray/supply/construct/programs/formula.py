"""Formulas set in mathematical type: fractions, polynomials, integrals, equations, sums. Checked by reading the source.

Parameters are numbers only; no text of anybody's reaches the typesetter.
"""

import math
import re
from fractions import Fraction
from random import Random
from typing import Annotated, Literal, Self

from matplotlib.figure import Figure
from PIL import Image
from pydantic import Field, model_validator

from dpe_ray.supply.construct.drawing import plot
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, first_valid, scaled
from dpe_ray.supply.construct.task import Shown, Task, Unsettled
from dpe_ray.types import AnswerKind

WIDTH, HEIGHT = 640, 240

Small = Annotated[int, Field(ge=-12, le=12)]


class FormulaParams(Params):
    """Whole numbers a, b, c, d and k; which of them a formula uses depends on `ask`."""

    ask: Literal["add_fractions", "evaluate_polynomial", "definite_integral", "solve_linear_equation", "finite_sum"]
    a: Small
    """add_fractions a/b + c/d; evaluate_polynomial a x^2 + b x + c at x = k; definite_integral of 2a x + b from c to d;
    solve_linear_equation a x + b = c x + d; finite_sum of a i + b for i from 1 to k."""
    b: Small
    c: Small = 1
    d: Small = 2
    k: Small = 3

    @model_validator(mode="after")
    def _settled(self) -> Self:
        if self.ask == "add_fractions" and (min(self.b, self.d) < 2 or min(self.a, self.c) < 1):
            raise ValueError("fractions need numerators of at least 1 and denominators of at least 2")
        if self.ask in ("evaluate_polynomial", "finite_sum", "definite_integral") and self.a == 0:
            raise ValueError("a must not be 0")
        if self.ask == "definite_integral" and not self.c < self.d:
            raise ValueError("the lower bound c must be below the upper bound d")
        if self.ask == "finite_sum" and self.k < 2:
            raise ValueError("k must be at least 2")
        has_root = 0 not in (self.a, self.c, self.a - self.c) and (self.d - self.b) % (self.a - self.c) == 0
        if self.ask == "solve_linear_equation" and not has_root:
            raise ValueError("a and c must differ, not be 0, and the root must be whole")
        return self


class Formula(Program[FormulaParams]):
    """One formula to be worked out."""

    name = "formula"
    summary = "A typeset formula with small whole numbers that is to be worked out."
    categories = ("math_formula",)
    params = FormulaParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> FormulaParams:
        """As `Program.sample`: larger and negative numbers are harder."""
        most = scaled(4, 12, difficulty)
        least = -most if difficulty > 0.4 else 1

        def attempt() -> FormulaParams:
            values = {name: rng.randint(least, most) for name in "abcd"}
            return FormulaParams(
                ask=ask,
                form=rng.choice(("choice", "open")),
                k=rng.randint(2, most),
                **values,
            )

        return first_valid(attempt)

    def make(self, params: FormulaParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        a, b, c, d, k = params.a, params.b, params.c, params.d, params.k
        question, slips = "What is the value of the expression?", []
        if params.ask == "add_fractions":
            return _fractions(params, rng)
        if params.ask == "evaluate_polynomial":
            source, answer = rf"p(x) = {_terms((a, 'x^2'), (b, 'x'), (c, ''))},\quad x = {k}", a * k * k + b * k + c
            question, why = "What is the value of p(x) for the given x?", f"{a}*{k * k} + {b}*({k}) + {c} = {answer}."
            slips = [a * k * k - b * k + c, 2 * a * k + b * k + c]
        elif params.ask == "definite_integral":
            source = rf"\int_{{{c}}}^{{{d}}} \left({_terms((2 * a, 'x'), (b, ''))}\right)\, dx"
            answer = a * (d * d - c * c) + b * (d - c)
            why = f"The antiderivative {a}x^2 + {b}x goes from {a * c * c + b * c} to {a * d * d + b * d}."
            slips = [a * d * d + b * d, 2 * a * (d - c)]
        elif params.ask == "solve_linear_equation":
            source = f"{_terms((a, 'x'), (b, ''))} = {_terms((c, 'x'), (d, ''))}"
            answer = (d - b) // (a - c)
            question, why = "Which x solves the equation?", f"{a - c}x = {d - b}, so x = {answer}."
            slips = [-answer, d - b]
        else:
            source, answer = (
                rf"\sum_{{i=1}}^{{{k}}} \left({_terms((a, 'i'), (b, ''))}\right)",
                a * k * (k + 1) // 2 + b * k,
            )
            why, slips = f"{a}*{k * (k + 1) // 2} + {b}*{k} = {answer}.", [a * k + b, a * k * (k + 1) // 2 + b]
        return Task(
            _set(source, rng),
            question,
            str(answer),
            AnswerKind.NUMBER,
            why,
            near(answer, rng, 1, -9999, slips),
            drawn=source,
        )

    def check(self, params: FormulaParams, shown: Shown) -> str:
        """As `Program.check`: reads the source back and computes by brute force instead of by formula."""
        source = shown.drawn
        if found := re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\} \+ \\frac\{(\d+)\}\{(\d+)\}", source):
            a, b, c, d = map(int, found.groups())
            return str(Fraction(a, b) + Fraction(c, d))
        if found := re.fullmatch(r"p\(x\) = (.+),\\quad x = (-?\d+)", source):
            return str(_value(found[1], "x", int(found[2])))
        if found := re.fullmatch(r"\\int_\{(-?\d+)\}\^\{(-?\d+)\} \\left\((.+)\\right\)\\, dx", source):
            low, high = int(found[1]), int(found[2])
            middles = [Fraction(2 * at + 1, 2) for at in range(low, high)]  # exact for straight lines
            return str(sum(_value(found[3], "x", at) for at in middles))
        if found := re.fullmatch(r"\\sum_\{i=1\}\^\{(\d+)\} \\left\((.+)\\right\)", source):
            return str(sum(_value(found[2], "i", at) for at in range(1, int(found[1]) + 1)))
        left, equals, right = source.partition(" = ")
        roots = [x for x in range(-30, 31) if equals and _value(left, "x", x) == _value(right, "x", x)]
        if len(roots) != 1:
            raise Unsettled(f"{len(roots)} whole roots from -30 to 30 for {source}")
        return str(roots[0])


def _fractions(params: FormulaParams, rng: Random) -> Task:
    a, b, c, d = params.a, params.b, params.c, params.d
    below, above = b * d // math.gcd(b, d), a * (b * d // math.gcd(b, d)) // b + c * (b * d // math.gcd(b, d)) // d
    shrink = math.gcd(above, below)
    answer = _fraction(above // shrink, below // shrink)
    why = f"Over {below}: {a * below // b}/{below} + {c * below // d}/{below} = {above}/{below} = {answer}."
    slips = [(a + c, b + d), (a * c, b * d), (above + 1, below), (abs(a * d - c * b) or 1, b * d)]
    wrong = tuple(_fraction(x // math.gcd(x, y), y // math.gcd(x, y)) for x, y in slips)
    source = rf"\frac{{{a}}}{{{b}}} + \frac{{{c}}}{{{d}}}"
    question = "What is the value of the expression, in lowest terms?"
    return Task(_set(source, rng), question, answer, AnswerKind.NUMBER, why, wrong, drawn=source)


def _fraction(above: int, below: int) -> str:
    return f"{above}/{below}" if below != 1 else str(above)


def _terms(*terms: tuple[int, str]) -> str:
    """`(3, x^2), (-1, x), (0, )` is `3x^2 - x`."""
    text = ""
    for factor, power in terms:
        if factor:
            size = "" if abs(factor) == 1 and power else str(abs(factor))
            sign = (" - " if factor < 0 else " + ") if text else "-" * (factor < 0)
            text += f"{sign}{size}{power}"
    return text or "0"


def _value(source: str, name: str, at: int | Fraction) -> Fraction:
    """Compute a typeset polynomial; it must be consumed to its last sign."""
    total, rest = Fraction(0), source.replace(" ", "")
    while rest:
        found = re.match(rf"([+-]?)(\d*)({name}?)(\^2)?", rest)
        if not found or not (found[2] or found[3]):
            raise Unsettled(f"{source!r} is no polynomial")
        power = Fraction(at) ** (2 if found[4] else 1) if found[3] else Fraction(1)
        total += (-1 if found[1] == "-" else 1) * int(found[2] or 1) * power
        rest = rest[found.end() :]
    return total


def _set(source: str, rng: Random) -> Image.Image:
    size, shade = rng.choice((26, 30, 34)), rng.choice(("black", "#1a2a6c", "#333333"))

    def paint(figure: Figure) -> None:
        figure.text(0.5, 0.5, f"${source}$", fontsize=size, color=shade, ha="center", va="center")

    return plot(WIDTH, HEIGHT, paint)
