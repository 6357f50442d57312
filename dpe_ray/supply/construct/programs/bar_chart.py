"""Bar charts: values that are read off, compared, counted and ranked. Checked by measuring the bars."""

import re
from random import Random
from typing import Annotated, Literal, Self

from matplotlib.figure import Figure
from PIL import Image
from pydantic import Field, model_validator

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import COLOURS, plot, share
from dpe_ray.supply.construct.labels import Label, Title, distinct
from dpe_ray.supply.construct.options import near
from dpe_ray.supply.construct.program import Params, Program, scaled
from dpe_ray.supply.construct.task import Shown, Task
from dpe_ray.supply.construct.words import SERIES
from dpe_ray.types import AnswerKind

FRAME = (60, 60, 60)
TOP = 20
"""Half grid steps from the foot of the chart to its top."""
SIZES = ((640, 480), (800, 480), (720, 600), (560, 560))
RANKS = ("highest", "second highest", "third highest")


class BarChartParams(Params):
    """A chart of 2-12 bars."""

    ask: Literal["read_value", "value_difference", "count_above_threshold", "rank_values"]
    title: Title
    unit: Title
    labels: Annotated[tuple[Label, ...], Field(min_length=2, max_length=12)]
    levels: Annotated[tuple[Annotated[int, Field(ge=1, le=TOP - 1)], ...], Field(min_length=2, max_length=12)]
    """Height of each bar in half grid steps; odd ones end between two grid lines and are harder to read."""
    step: Literal[1, 2, 5, 10, 25, 50, 100, 500]
    """Value of half a grid step."""
    first: Annotated[int, Field(ge=0, le=11)] = 0
    """Bar that is asked about, from 0."""
    second: Annotated[int, Field(ge=0, le=11)] = 1
    """Bar that it is compared with."""
    threshold: Annotated[int, Field(ge=1, le=TOP - 1)] = 10
    """In half grid steps; no bar may be equal to it when it is asked for."""
    rank: Annotated[int, Field(ge=1, le=len(RANKS))] = 1
    """1 asks for the highest bar; no other may be as high."""
    grid: bool = True
    colour: Literal["red", "blue", "green", "orange", "purple", "brown"] = "blue"

    @model_validator(mode="after")
    def _settled(self) -> Self:
        count = len(self.labels)
        if len(self.levels) != count:
            raise ValueError(f"{count} labels and {len(self.levels)} levels")
        distinct(self.labels)
        if max(self.first, self.second) >= count:
            raise ValueError(f"first and second must be below {count}")
        if self.ask == "value_difference" and self.levels[self.first] <= self.levels[self.second]:
            raise ValueError("the first bar must be higher than the second")
        if self.ask == "count_above_threshold" and self.threshold in self.levels:
            raise ValueError("a bar is as high as the threshold")
        if self.ask == "rank_values" and (count < 3 or len(set(self.levels)) < count):
            raise ValueError("ranks need three bars or more, all of different heights")
        return self


class BarChart(Program[BarChartParams]):
    """A vertical bar chart with one series."""

    name = "bar_chart"
    summary = "A bar chart with one series on a labelled value axis."
    categories = ("chart_graph",)
    params = BarChartParams

    def sample(self, ask: str, difficulty: float, rng: Random) -> BarChartParams:
        """As `Program.sample`: more bars, no grid and odd heights are harder."""
        count = scaled(3, 10, difficulty)
        stride = 2 if difficulty < 0.35 and count < 7 else 1
        levels = rng.sample(range(2, TOP, stride), count)
        names = list(rng.choice(SERIES))[:count]
        first, second = sorted(rng.sample(range(count), 2), key=lambda at: -levels[at])
        return BarChartParams(
            ask=ask,
            form=rng.choice(("choice", "open")),
            title=rng.choice(("Sales by group", "Visitors", "Points won", "Output of the year")),
            unit=rng.choice(("Units", "Thousands", "Points", "Hours")),
            labels=tuple(names),
            levels=tuple(levels),
            step=rng.choice((1, 2, 5, 10, 25, 50)),
            first=first,
            second=second,
            threshold=rng.choice([level for level in range(2, TOP) if level not in levels]),
            rank=1 if difficulty < 0.3 else rng.choice((1, 2, 3)),
            grid=difficulty < 0.6,
            colour=rng.choice(("red", "blue", "green", "orange", "purple", "brown")),
        )

    def make(self, params: BarChartParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`."""
        width, bar = rng.choice(SIZES), rng.uniform(0.45, 0.75)
        picture = plot(*width, lambda figure: _paint(figure, params, bar))
        values = [level * params.step for level in params.levels]
        names, first, second = params.labels, params.first, params.second
        one, other = names[first], names[second]
        if params.ask == "read_value":
            question, answer = f'What is the value of "{one}" in the chart?', values[first]
            why, slips = f'The bar of "{one}" ends at {answer}.', [values[first] + params.step, values[first - 1]]
        elif params.ask == "value_difference":
            answer = values[first] - values[second]
            question = f'By how much is "{one}" higher than "{other}"?'
            why, slips = f"{values[first]} - {values[second]} = {answer}.", [values[first], values[second]]
        elif params.ask == "count_above_threshold":
            mark = params.threshold * params.step
            above = [name for name, value in zip(names, values, strict=True) if value > mark]
            question, answer = f"How many bars are higher than {mark}?", len(above)
            why = f"Above {mark}: {', '.join(above) or 'none'}. That makes {answer}."
            return _number(picture, question, answer, why, near(answer, rng, slips=[len(names) - answer]))
        else:
            order = sorted(names, key=lambda name: -values[names.index(name)])
            answer_name = order[params.rank - 1]
            question = f"Which bar is the {RANKS[params.rank - 1]}?"
            why = f"From high to low: {', '.join(order)}."
            return Task(
                picture, question, answer_name, AnswerKind.TEXT, why, tuple(n for n in order if n != answer_name)
            )
        return _number(picture, question, answer, why, near(answer, rng, params.step, slips=slips))

    def check(self, params: BarChartParams, shown: Shown) -> str:
        """As `Program.check`: heights are measured in pixels between the frame's foot and top."""
        frame = measure.where(shown.pixels, FRAME)
        rows = measure.lines(frame, 1, 0.5)
        bars = measure.blobs(measure.where(shown.pixels, COLOURS[params.colour]))
        height = (rows[-1] - rows[0]) / TOP
        levels = [measure.whole((rows[-1] - bar.top) / height, "a bar") for bar in bars]
        value = {name: level * params.step for name, level in zip(params.labels, levels, strict=True)}
        named = re.findall(r'"([^"]+)"', shown.question)
        if shown.question.startswith("What is the value"):
            return str(value[named[0]])
        if shown.question.startswith("By how much"):
            return str(value[named[0]] - value[named[1]])
        if above := re.search(r"higher than (\d+)", shown.question):
            return str(sum(v > int(above[1]) for v in value.values()))
        place = next(at for at, rank in enumerate(RANKS) if f"the {rank}?" in shown.question)
        return max(value, key=lambda name: sum(value[name] > v for v in value.values()) == len(value) - 1 - place)


def _number(picture: Image.Image, question: str, answer: int, why: str, wrong: tuple[str, ...]) -> Task:
    return Task(picture, question, str(answer), AnswerKind.NUMBER, why, wrong)


def _paint(figure: Figure, params: BarChartParams, bar: float) -> None:
    turned = sum(map(len, params.labels)) > 40
    foot = 0.32 if turned else 0.11
    axes = figure.add_axes((0.17, foot, 0.79, 0.9 - foot))
    places = range(len(params.labels))
    heights = [level * params.step for level in params.levels]
    axes.bar(places, heights, bar, color=share(COLOURS[params.colour]), antialiased=False, linewidth=0, zorder=2)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.set_ylim(0, TOP * params.step)
    axes.set_yticks([tick * params.step for tick in range(0, TOP + 1, 2)])
    axes.set_yticklabels([str(tick * params.step) for tick in range(0, TOP + 1, 2)])
    axes.set_xticks(
        list(places), list(params.labels), parse_math=False, rotation=45 * turned, ha="right" if turned else "center"
    )
    axes.set_title(params.title, parse_math=False)
    axes.set_ylabel(params.unit, parse_math=False)
    if params.grid:
        axes.grid(axis="y", color="#dddddd", zorder=0)
    for spine in axes.spines.values():
        spine.set(color=share(FRAME), antialiased=False, linewidth=0.72, zorder=3)
