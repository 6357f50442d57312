"""What equal_budget_table.py computes with: the cells of a folder, accuracies, paired differences and intervals.

Differences are paired: the same final items and seeds under both arms. Their variance adds the spread of the items
within each skill (as each seed answers the same items, of the mean over seeds) to the spread between seeds / seeds;
intervals are 95 %, Student's t with as many degrees of freedom as seeds allow, and over items alone with one seed.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from dpe_ray.micro.planted import PLANS

KINDS = ("misconception", "knowledge", "perception", "sound")
WEAK = KINDS[:3]
PLAN = PLANS["A"]


class Difference(NamedTuple):
    """A mean difference with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"

    @property
    def told(self) -> str:
        """What the interval shows."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no difference shown"

    def within(self, margin: float) -> bool:
        """Whether the whole 95 % interval lies in +-margin; two one-sided tests at 5 % would ask it of the 90 % one."""
        return -margin < self.low and self.high < margin


@dataclass(frozen=True)
class Suite:
    """The final items, and how much each weighs in a figure."""

    categories: tuple[str, ...]
    skills: tuple[str, ...]

    @cached_property
    def macro(self) -> NDArray[np.float64]:
        """[items] Weights of the mean over categories."""
        count = {name: self.categories.count(name) for name in set(self.categories)}
        return np.array([1 / (len(count) * count[name]) for name in self.categories])

    def of_kinds(self, kinds: Sequence[str]) -> NDArray[np.float64]:
        """[items] Weights of the mean over the items of some kinds of weakness."""
        chosen = [PLAN.kind(skill) in kinds for skill in self.skills]
        return np.array(chosen) / sum(chosen)

    @cached_property
    def measures(self) -> Mapping[str, NDArray[np.float64]]:
        """Figure to weights: macro, all weak skills, and every kind of weakness."""
        return {"macro": self.macro, "weak": self.of_kinds(WEAK)} | {kind: self.of_kinds([kind]) for kind in KINDS}

    def difference(self, changes: NDArray[np.float64], weights: NDArray[np.float64]) -> Difference:
        """Mean over seeds of a weighted mean of [seeds, items] changes."""
        seeds = len(changes)
        per_seed, mean = changes @ weights, changes.mean(axis=0)
        variance = 0.0
        for skill in set(self.skills):
            members = np.array([name == skill for name in self.skills])
            variance += float((weights[members] ** 2).sum() * mean[members].var(ddof=1))
        if seeds > 1:
            variance += float(per_seed.var(ddof=1)) / seeds
        half = float(student_t.ppf(0.975, seeds - 1 if seeds > 1 else len(weights) - 1)) * variance**0.5
        centre = float(per_seed.mean())
        return Difference(centre, centre - half, centre + half)


@dataclass(frozen=True)
class Cells:
    """All cells of one --out folder."""

    suite: Suite
    base: NDArray[np.float64]
    """[items]"""
    cells: Mapping[tuple[str, int, int], Mapping[str, Any]]
    """By arm, seed and budget."""

    def only(self, seeds: Collection[int]) -> "Cells":
        """Those of some seeds."""
        return replace(self, cells={key: cell for key, cell in self.cells.items() if key[1] in seeds})

    def budgets(self, arm: str = "") -> list[int]:
        """Budgets that have cells, of one arm or of any."""
        return sorted({budget for a, _, budget in self.cells if arm in ("", a)})

    def seeds(self, arm: str, *budgets: int) -> list[int]:
        """Seeds of one arm that have cells at all these budgets; at no calls every seed stands where it began."""
        found = [{seed for a, seed, b in self.cells if a == arm and budget in (0, b)} for budget in budgets]
        return sorted(set[int].intersection(*found)) if found else []

    def right(self, arm: str, budget: int, seeds: Sequence[int]) -> NDArray[np.float64]:
        """1 for a right answer: [seeds, items]."""
        if budget == 0:
            return np.tile(self.base, (len(seeds), 1))
        return np.array([bits(self.cells[arm, seed, budget]["right"]) for seed in seeds])

    def shared(self, arm: str, other: str) -> list[int]:
        """Budgets at which both arms have cells."""
        return sorted(set(self.budgets(arm)) & set(self.budgets(other)))

    def paired(self, arm: str, other: str, calls: float) -> tuple[list[int], dict[str, Difference]]:
        """Seeds that both arms have, and one arm minus the other by figure; empty when they share none there.

        Where `calls` is no budget of both, along a straight line between the two around it that both have.
        """
        shared = [0, *self.shared(arm, other)]
        below, above = max(b for b in shared if b <= calls), min((b for b in shared if b >= calls), default=0)
        both = sorted(set(self.seeds(arm, below, above)) & set(self.seeds(other, below, above)))
        if not above or not both:
            return [], {}
        share = (calls - below) / (above - below) if above > below else 0.0
        low, high = (self.right(arm, b, both) - self.right(other, b, both) for b in (below, above))
        changes = (1 - share) * low + share * high
        return both, {name: self.suite.difference(changes, weights) for name, weights in self.suite.measures.items()}

    def mean(self, arm: str, budget: int, key: str) -> float:
        """Mean over seeds of a number that a cell holds."""
        return float(np.mean([self.cells[arm, seed, budget].get(key, 0) for seed in self.seeds(arm, budget)]))

    def curve(self, arm: str, seeds: Sequence[int]) -> list[tuple[int, float]]:
        """(calls, macro) from no calls on, mean over seeds, at the budgets at which the arm has all of them."""
        macro = self.suite.macro
        budgets = [b for b in self.budgets(arm) if set(seeds) <= set(self.seeds(arm, b))]
        points = [(b, float((self.right(arm, b, seeds) @ macro).mean())) for b in budgets]
        return [(0, float(self.base @ macro)), *points]


def read(out: Path) -> Cells:
    """Load a folder of cells."""
    base = json.loads((out / "base.json").read_text())
    categories, skills = zip(*base["suite"], strict=True)
    found = [json.loads(file.read_text()) for file in sorted(out.glob("*-*-*.json"))]
    cells = {(cell["arm"], cell["seed"], cell["budget"]): cell for cell in found}
    return Cells(Suite(categories, skills), bits(base["right"]), cells)


def bits(text: str) -> NDArray[np.float64]:
    """[items] 1 for a right answer."""
    return np.array([float(digit) for digit in text])


def calls_to(level: float, curve: Sequence[tuple[int, float]]) -> float | None:
    """First crossing of a level; None where the curve stays below."""
    for (start, low), (end, high) in pairwise(curve):
        if high >= level:
            return start + (end - start) * max(0.0, level - low) / (high - low) if high > low else float(start)
    return None
