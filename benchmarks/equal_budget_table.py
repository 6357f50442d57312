"""The tables of equal_budget.py, from the cells that are there.

    python benchmarks/equal_budget_table.py --out runs/equal_budget

Differences are paired: the same final items and seeds under both arms. Their variance adds the spread of the items
within each skill (as each seed answers the same items, of the mean over seeds) to the spread between seeds / seeds;
intervals are 95 %, Student's t with as many degrees of freedom as seeds allow, and over items alone with one seed.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student_t

from dpe_ray.micro.planted import PLANS

KINDS = ("misconception", "knowledge", "perception", "sound")
WEAK = KINDS[:3]
SATURATED = 0.95
"""Share of uniform's final gain at which it counts as saturated."""
PLAN = PLANS["A"]


class Difference(NamedTuple):
    """A mean difference with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


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
        chosen = np.array([PLAN.kind(skill) in kinds for skill in self.skills], dtype=float)
        return chosen / chosen.sum()

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
    cells: Mapping[tuple[str, int, int], Mapping[str, object]]
    """By arm, seed and budget."""

    def arms(self) -> list[str]:
        """Arms that have cells, in the order of the benchmark."""
        order = {name: place for place, name in enumerate(ORDER)}
        return sorted({arm for arm, _, _ in self.cells}, key=lambda name: order.get(name, len(order)))

    def budgets(self) -> list[int]:
        """Budgets that have cells."""
        return sorted({budget for _, _, budget in self.cells})

    def seeds(self, arm: str, budget: int) -> list[int]:
        """Seeds of one arm at one budget."""
        return sorted(seed for a, seed, b in self.cells if (a, b) == (arm, budget))

    def right(self, arm: str, budget: int, seeds: Sequence[int]) -> NDArray[np.float64]:
        """1 for a right answer: [seeds, items]."""
        return np.array([bits(str(self.cells[arm, seed, budget]["right"])) for seed in seeds])

    def between(self, arm: str, calls: float, seeds: Sequence[int]) -> NDArray[np.float64]:
        """[seeds, items] Right answers along a straight line between the two budgets around `calls`."""
        below = max(b for b in self.budgets() if b <= calls)
        above = min(b for b in self.budgets() if b >= calls)
        share = (calls - below) / (above - below) if above > below else 0.0
        return (1 - share) * self.right(arm, below, seeds) + share * self.right(arm, above, seeds)

    def complete(self, arm: str) -> list[int]:
        """Seeds of one arm with cells at every budget."""
        return [
            seed
            for seed in self.seeds(arm, self.budgets()[0])
            if all(seed in self.seeds(arm, b) for b in self.budgets())
        ]

    def mean(self, arm: str, budget: int, key: str) -> float:
        """Mean over seeds of a number that a cell holds."""
        return float(np.mean([self.cells[arm, seed, budget].get(key, 0) for seed in self.seeds(arm, budget)]))

    def paired(self, arm: str, other: str, budget: int, weights: NDArray[np.float64]) -> Difference | None:
        """One arm minus another, on the seeds that both have."""
        both = sorted(set(self.seeds(arm, budget)) & set(self.seeds(other, budget)))
        if not both or arm == other:
            return None
        changes = self.right(arm, budget, both) - self.right(other, budget, both)
        return self.suite.difference(changes, weights)

    def curve(self, arm: str, weights: NDArray[np.float64]) -> list[tuple[int, float]]:
        """(calls, accuracy) from no calls on, mean over seeds."""
        points = [
            (b, float((self.right(arm, b, s) @ weights).mean())) for b in self.budgets() if (s := self.seeds(arm, b))
        ]
        return [(0, float(self.base @ weights)), *points]


ORDER = ("random", "uniform", "tiered", "random_support", "error_driven", "unified", "shuffled")


def main() -> None:
    """Read the cells and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/equal_budget"))
    args = parser.parse_args()
    cells = read(args.out)
    rows = [row(cells, arm, budget) for arm in cells.arms() for budget in cells.budgets() if cells.seeds(arm, budget)]
    base = {"macro": float(cells.base @ cells.suite.macro), "weak": float(cells.base @ cells.suite.of_kinds(WEAK))}
    base |= {kind: float(cells.base @ cells.suite.of_kinds([kind])) for kind in KINDS}
    reached = saturation(cells)
    at_half = half_budget(cells, float(reached["B"]))
    console = Console(width=220)
    console.print(rendered(rows, base))
    if at_half:
        console.print(plain("At the budget B, between the budgets around it", at_half))
    for line in reached["told"]:
        console.print(line)
    print(f"wrote {common.write('equal_budget', {'base': base, 'rows': rows, 'saturation': reached, 'at_B': at_half})}")


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


def row(cells: Cells, arm: str, budget: int) -> dict[str, object]:
    """One arm at one budget."""
    seeds, suite = cells.seeds(arm, budget), cells.suite
    right = cells.right(arm, budget, seeds)
    weak = suite.of_kinds(WEAK)
    changes = {
        f"{name} - {other}": cells.paired(arm, other, budget, weights)
        for other in ("uniform", "random")
        for name, weights in (("macro", suite.macro), ("weak", weak))
    }
    return {
        "arm": arm, "budget": budget, "seeds": len(seeds),
        "diagnosis": cells.mean(arm, budget, "diagnosis_calls"),
        "labelling": cells.mean(arm, budget, "labelling_calls"),
        "samples": cells.mean(arm, budget, "samples"), "updates": cells.mean(arm, budget, "updates"),
        "macro": float((right @ suite.macro).mean()), "weak": float((right @ weak).mean()),
        **{kind: float((right @ suite.of_kinds([kind])).mean()) for kind in KINDS},
        **{name: change and list(change) for name, change in changes.items()},
    }  # fmt: skip


def saturation(cells: Cells) -> dict[str, object]:
    """Calls at which uniform saturates, and at which every arm gets there, along straight lines between budgets."""
    macro = cells.suite.macro
    curve = cells.curve("uniform", macro)
    level = curve[0][1] + SATURATED * (curve[-1][1] - curve[0][1])
    calls = {arm: calls_to(level, cells.curve(arm, macro)) for arm in cells.arms()}
    uniform = calls["uniform"]
    assert uniform is not None, "a curve reaches 95 % of its own end"
    told = [
        f"uniform has {SATURATED:.0%} of its final gain (macro {level:.3f}) at {uniform:.0f} calls; "
        f"B = {uniform / 2:.0f}"
    ]
    told += [
        f"{arm}: {'not reached' if needed is None else f'{needed:.0f} calls, {needed / uniform:.2f} x uniform'}"
        for arm, needed in calls.items()
        if arm != "uniform"
    ]
    return {"level": level, "B": uniform / 2, "calls": calls, "told": told}


def half_budget(cells: Cells, calls: float) -> list[dict[str, object]]:
    """Every arm against uniform and random at the budget B, macro and weak skills, on the seeds that are complete."""
    rows = []
    for arm in cells.arms():
        changes: dict[str, object] = {}
        for other in ("uniform", "random"):
            both = sorted(set(cells.complete(arm)) & set(cells.complete(other)))
            for name, weights in (("macro", cells.suite.macro), ("weak", cells.suite.of_kinds(WEAK))):
                if both and arm != other:
                    change = cells.between(arm, calls, both) - cells.between(other, calls, both)
                    changes[f"{name} - {other}"] = list(cells.suite.difference(change, weights))
        if changes:
            rows.append({"arm": arm, "seeds": len(cells.complete(arm)), **changes})
    return rows


def calls_to(level: float, curve: Sequence[tuple[int, float]]) -> float | None:
    """First crossing of a level; None where the curve stays below."""
    for (start, low), (end, high) in pairwise(curve):
        if high >= level:
            return start + (end - start) * max(0.0, level - low) / (high - low) if high > low else float(start)
    return None


def rendered(rows: Sequence[Mapping[str, object]], base: Mapping[str, float]) -> Table:
    """The table for the console."""
    table = Table(title="Accuracy at equal teacher calls and updates; differences paired, 95 % intervals")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "arm" else "right")
    table.add_row("untrained", *[f"{base[name]:.3f}" if name in base else "" for name in list(rows[0])[1:]])
    for values in rows:
        table.add_row(*[_shown(name, value) for name, value in values.items()])
    return table


def plain(title: str, rows: Sequence[Mapping[str, object]]) -> Table:
    """A table of rows that may lack columns."""
    table = Table(title=title)
    names = list(dict.fromkeys(name for values in rows for name in values))
    for name in names:
        table.add_column(name)
    for values in rows:
        table.add_row(*[_shown(name, values.get(name)) for name in names])
    return table


def _shown(name: str, value: object) -> str:
    if isinstance(value, list):
        return str(Difference(*value))
    if isinstance(value, float):
        return f"{value:.0f}" if name in ("diagnosis", "labelling", "samples", "updates") else f"{value:.3f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
