"""The run as one HTML file: no script, no outside resource, every word of a model escaped, every picture encoded anew.

What is shown comes from the run directory; nothing is measured here but the interval of a macro accuracy.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from markupsafe import Markup

from dpe_ray.rounds import charts
from dpe_ray.rounds.findings import PlanRow, mistakes, plan_rows
from dpe_ray.rounds.page import page
from dpe_ray.rounds.record import sft_losses
from dpe_ray.rounds.thumbnails import thumbnail
from dpe_ray.types import Comparison, DataPlan, Diagnosis, ImageRef, Rejection, Sample, Score, TrainResult

SAMPLES_SHOWN = 24
"""Accepted samples per round, and as many rejected ones, spread over cells and gates."""

STEPS_SHOWN = 30
"""Steps of a rationale with a located mistake."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class RoundReport:
    """What one round left behind; None or empty for a stage that it did not reach."""

    index: int
    """From 1."""
    diagnosis: Diagnosis | None = None
    plan: DataPlan | None = None
    train: TrainResult | None = None
    comparison: Comparison | None = None
    reasons: tuple[str, ...] = ()
    """Why the round ended as it did."""
    accepted: tuple[Sample, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class ReportData:
    """Everything that the report shows."""

    name: str
    summary: Mapping[str, Any]
    """As in summary.json."""
    rounds: tuple[RoundReport, ...]
    read_image: Callable[[ImageRef], bytes]
    """Asked only for pictures that are shown; one that raises OSError or PoolError is shown as missing."""
    budget: Sequence[str] = ()
    """Of every limit what was spent, in words."""


class Interval(NamedTuple):
    """A fraction with its 95 % interval."""

    value: float
    low: float
    high: float


def render(report: ReportData) -> str:
    """Write the report as HTML. Reads at most 2 x `SAMPLES_SHOWN` samples' pictures per round."""
    entries = {entry["index"]: entry for entry in report.summary["rounds"]}
    return page("report.html.jinja").render(
        report=report,
        summary=report.summary,
        rounds=[(round_, entries.get(round_.index)) for round_ in report.rounds],
        entries=[entries[index] for index in sorted(entries)],
        stages=_stages(entries.values()),
        panels=_panels(report.rounds),
        scores=_scores,
        macro=macro_interval,
        needs=needs,
        mistakes=mistakes,
        sampled=_sampled,
        STEPS_SHOWN=STEPS_SHOWN,
        rewards=lambda train: [step["reward"] for step in train.metrics if "reward" in step],
        losses=lambda train: sft_losses(train.metrics),
        accepted_shown=lambda round_: spread(round_.accepted, lambda s: s.provenance.cell, SAMPLES_SHOWN),
        rejected_shown=lambda round_: spread(round_.rejected, lambda r: r.gate, SAMPLES_SHOWN),
        picture=lambda image: thumbnail(image, report.read_image),
        charts=charts,
    )


def macro_interval(score: Mapping[str, Any]) -> Interval:
    """Put a 95 % interval on a mean over categories, from the Wilson intervals of the independent categories.

    Distances to the limits add in quadrature (MOVER, Zou and Donner 2008): sqrt(sum d_i^2) / categories.
    """
    parts = [part for part in score["by_category"].values() if part["n"]]
    macro = float(score["macro"])
    if not parts:
        return Interval(macro, 0.0, 1.0)
    below = math.hypot(*(part["accuracy"] - part["low"] for part in parts)) / len(parts)
    above = math.hypot(*(part["high"] - part["accuracy"] for part in parts)) / len(parts)
    return Interval(macro, max(macro - below, 0.0), min(macro + above, 1.0))


def spread(items: Sequence[Item], label: Callable[[Item], str], most: int) -> list[Item]:
    """At most `most` items, taken in turn from every label in order of first appearance, so that rare ones are seen."""
    queues: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        queues[label(item)].append(item)
    depth = max((len(queue) for queue in queues.values()), default=0)
    return [queue[i] for i in range(depth) for queue in queues.values() if i < len(queue)][:most]


def _panels(rounds: Sequence[RoundReport]) -> list[Markup]:
    """One panel per category: what was kept before the first round, then every round's candidate."""
    compared = [(r.index, r.comparison) for r in rounds if r.comparison]
    if not compared:
        return []
    points: dict[str, list[charts.Point]] = defaultdict(list)
    for name, score in compared[0][1].before.by_category.items():
        points[name].append(charts.Point("base" if compared[0][0] == 1 else "before", score, True))
    for index, comparison in compared:
        for name, score in comparison.after.by_category.items():
            points[name].append(charts.Point(f"round {index}", score, comparison.decision != "rollback"))
    return [charts.category_panel(name, series) for name, series in points.items()]


def _scores(score: Mapping[str, Any]) -> dict[str, Score]:
    return {name: Score(**part) for name, part in score["by_category"].items()}


def needs(round_: RoundReport) -> list[PlanRow]:
    """List the plan's cells, largest quota first, beside what the diagnosis says of them."""
    return plan_rows(round_.plan, round_.diagnosis, round_.accepted)


def _sampled(diagnosis: Diagnosis) -> bool:
    """Whether it was measured what cells can still learn and lack."""
    return any(cell.needs or cell.learnability is not None for cell in diagnosis.cells)


def _stages(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """All stages with measured seconds, in the order in which they first ran."""
    return list(dict.fromkeys(stage for entry in entries for stage in entry["seconds"]))
