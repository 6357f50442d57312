"""The report's charts, drawn by hand as inline SVG: they follow the page's colours and load nothing.

Units: coordinates are pixels at 100 %, values are fractions 0-1. Colours come from the page's style sheet by class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from dpe_ray.types import Score

SMOOTHING = 5
"""Steps in the moving mean of a curve."""


@dataclass(frozen=True)
class Point:
    """One measurement of a panel."""

    label: str
    """Under the axis: `base` or the round."""
    score: Score
    kept: bool
    """False for a policy that was rolled back: drawn hollow."""


def category_panel(title: str, points: Sequence[Point]) -> Markup:
    """Accuracy of one category over the rounds with its intervals; the line joins the policies that were kept."""
    left, right, top, bottom = 40, 218, 30, 112

    def place(index: int) -> float:
        return left + (right - left) * (index + 0.5) / len(points)

    def height(value: float) -> float:
        return bottom - (bottom - top) * value

    parts = [_text(left - 30, 16, title, "title", "start")]
    parts += [_line(left, height(v), right, height(v), "grid") for v in (0.0, 0.5, 1.0)]
    parts += [_text(left - 6, height(v) + 4, f"{100 * v:.0f} %", "tick", "end") for v in (0.0, 0.5, 1.0)]
    kept = [(place(i), height(p.score.accuracy)) for i, p in enumerate(points) if p.kept]
    parts.append(_path(kept, "line"))
    for index, point in enumerate(points):
        x, score = place(index), point.score
        parts.append(_line(x, height(score.low), x, height(score.high), "interval"))
        parts.append(_dot(x, height(score.accuracy), "dot" if point.kept else "dot hollow"))
        parts.append(_text(x, bottom + 15, point.label, "tick", "middle"))
    return _svg(226, 134, f"{title}: accuracy by round", parts)


def before_after(base: Mapping[str, Score], final: Mapping[str, Score]) -> Markup:
    """One row per category: base (hollow, above) and final policy (filled, below) with their intervals."""
    names = list(base)
    left, right, top, row = 150, 690, 12, 32
    bottom = top + row * len(names)

    def place(value: float) -> float:
        return left + (right - left) * value

    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    parts = [_line(place(v), top, place(v), bottom, "grid") for v in ticks]
    parts += [_text(place(v), bottom + 16, f"{100 * v:.0f} %", "tick", "middle") for v in ticks]
    parts.append(_text((left + right) / 2, bottom + 34, "accuracy, final suite, 95 % interval", "axis", "middle"))
    for index, name in enumerate(names):
        middle = top + row * (index + 0.5)
        parts.append(_text(left - 12, middle + 4, name, "label", "end"))
        for score, y, kind in ((base[name], middle - 5, "hollow"), (final.get(name), middle + 5, "")):
            if score is not None and score.n:
                parts.append(_line(place(score.low), y, place(score.high), y, f"interval {kind}"))
                parts.append(_dot(place(score.accuracy), y, f"dot {kind}"))
    return _svg(720, bottom + 42, "Accuracy by category, base and final policy", parts)


def reward_curve(rewards: Sequence[float]) -> Markup:
    """Mean reward of every optimiser step, and its moving mean over `SMOOTHING` steps."""
    return _curve(rewards, "Mean reward by optimiser step", 1.0)


def loss_curve(losses: Sequence[float]) -> Markup:
    """The same for the loss of supervised fine-tuning."""
    return _curve(losses, "Loss by optimiser step", 0.0)


def _curve(values: Sequence[float], title: str, least_high: float) -> Markup:
    """The axis ends at `least_high` or where the values do."""
    left, right, top, bottom = 56, 690, 12, 150
    low, high = min(0.0, *values), max(least_high, *values)
    span = high - low or 1.0

    def at(step: int, value: float) -> tuple[float, float]:
        x = left + (right - left) * (step / max(len(values) - 1, 1))
        return x, bottom - (bottom - top) * (value - low) / span

    ticks = [low + span * i / 4 for i in range(5)]
    parts = [_line(left, at(0, v)[1], right, at(0, v)[1], "grid") for v in ticks]
    parts += [_text(left - 8, at(0, v)[1] + 4, f"{v:.2f}", "tick", "end") for v in ticks]
    for step in sorted({0, len(values) // 4, len(values) // 2, 3 * len(values) // 4, len(values) - 1}):
        parts.append(_text(at(step, low)[0], bottom + 16, str(step + 1), "tick", "middle"))
    parts.append(_text((left + right) / 2, bottom + 34, "optimiser step", "axis", "middle"))
    parts.append(_path([at(i, v) for i, v in enumerate(values)], "line faint"))
    means = [
        sum(window) / len(window) for i in range(len(values)) if (window := values[max(0, i - SMOOTHING + 1) : i + 1])
    ]
    parts.append(_path([at(i, v) for i, v in enumerate(means)], "line"))
    return _svg(720, bottom + 42, title, parts)


def interval_bar(accuracy: float, low: float, high: float) -> Markup:
    """Draw a table cell's accuracy: a track from 0 to 100 %, the interval on it, and a dot."""
    width = 120
    parts = [
        _line(4, 8, width - 4, 8, "track"),
        _line(4 + (width - 8) * low, 8, 4 + (width - 8) * high, 8, "interval"),
        _dot(4 + (width - 8) * accuracy, 8, "dot"),
    ]
    return _svg(width, 16, f"{accuracy:.0%}, from {low:.0%} to {high:.0%}", parts, "small")


def bar(fraction: float, kind: str = "") -> Markup:
    """Draw a table cell's share as a bar of at most 120 pixels."""
    shown = Markup('<rect class="bar {}" x="0" y="3" width="{:.1f}" height="10" rx="2"/>')
    return _svg(120, 16, f"{fraction:.0%}", [shown.format(kind, 120 * min(max(fraction, 0.0), 1.0))], "small")


def _svg(width: float, height: float, label: str, parts: Sequence[Markup], kind: str = "chart") -> Markup:
    opening = Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" role="img" aria-label="{}">')
    return opening.format(kind, width, height, width, label) + Markup("").join(parts) + Markup("</svg>")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _dot(x: float, y: float, kind: str) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(kind, x, y)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    opening = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">')
    return opening.format(kind, x, y, anchor) + escape(text) + Markup("</text>")


def _path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in points))
