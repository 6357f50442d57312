"""The tables of equal_budget.py, from the cells that are there; what is missing is named.

    python benchmarks/equal_budget_table.py --out runs/equal_budget

The preset `unified` was chosen on seed 0, so that seed judges nothing: its cells stand in a table of their own.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any

import common
import numpy as np
from equal_budget_figures import Cells, Difference, calls_to, read
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

SATURATED = 0.95
"""Share of uniform's final gain at which it counts as saturated."""
LARGEST = 8000
"""Calls at which uniform's gain counts as final; without a cell there nothing is said of saturation."""
EQUIVALENT = 0.01
"""Largest macro difference that counts as none."""
CHOSEN_ON = (0,)
"""Seeds on which the preset `unified` was chosen."""
ARMS = ("random", "uniform", "tiered", "random_support", "error_driven", "unified", "shuffled")
COMPARED = (
    ("unified", "uniform"),
    ("unified", "random"),
    ("unified", "tiered"),
    ("unified", "shuffled"),
    ("error_driven", "random"),
    ("error_driven", "random_support"),
    ("error_driven", "uniform"),
    ("tiered", "uniform"),
    ("tiered", "random"),
    ("uniform", "random"),
    ("shuffled", "random"),
)


def main() -> None:
    """Read the cells and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/equal_budget"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="those that judge")
    args = parser.parse_args()
    if not (args.out / "base.json").exists():
        parser.error(f"{args.out} has no cells; run benchmarks/equal_budget.py first, or give --out")
    every = read(args.out)
    seeds = sorted(set(args.seeds) - set(CHOSEN_ON))
    judged = every.only(seeds)
    saturated = saturation(judged)
    half = saturated.get("B")
    result = {
        "judged_on": seeds,
        "note": f"unified was chosen on seed {CHOSEN_ON[0]}: it is judged on the other seeds only",
        "base": accuracies(judged, judged.base),
        "rows": rows(judged),
        "compared": compared(judged, half),
        "saturation": saturated,
        "equivalence": equivalence(judged, half),
        "seed_of_choice": rows(every.only(CHOSEN_ON)),
        "missing": missing(judged, seeds),
    }
    show(result)
    print(f"wrote {common.write('equal_budget', result)}")


def rows(cells: Cells) -> list[dict[str, Any]]:
    """Every arm at every budget that it has."""
    return [row(cells, arm, budget) for arm in ARMS for budget in cells.budgets(arm)]


def row(cells: Cells, arm: str, budget: int) -> dict[str, Any]:
    """One arm at one budget: prices, amounts and accuracies, means over its seeds."""
    seeds = cells.seeds(arm, budget)
    counted = {name: cells.mean(arm, budget, f"{name}_calls") for name in ("diagnosis", "labelling")}
    counted |= {name: cells.mean(arm, budget, name) for name in ("samples", "updates")}
    right = cells.right(arm, budget, seeds).mean(axis=0)
    return {"arm": arm, "budget": budget, "seeds": len(seeds), **counted, **accuracies(cells, right)}


def accuracies(cells: Cells, right: NDArray[np.float64]) -> dict[str, float]:
    """Every figure of [items] right answers."""
    return {name: float(right @ weights) for name, weights in cells.suite.measures.items()}


def compared(cells: Cells, half: float | None) -> list[dict[str, Any]]:
    """One arm minus another at every budget and at B, with paired intervals, on the seeds that both have."""
    found = []
    for arm, other in COMPARED:
        for at, seeds, changes in paired(cells, arm, other, half):
            shown = changes["macro"].told if seeds > 1 else "one seed only"
            told = {"compared": f"{arm} - {other}", "at": at, "seeds": seeds, "macro is": shown}
            found.append(told | {name: list(change) for name, change in changes.items()})
    return found


def paired(cells: Cells, arm: str, other: str, half: float | None) -> Iterator[tuple[str, int, dict[str, Difference]]]:
    """(budget or B, number of seeds, difference by figure) wherever both arms have cells."""
    for at, calls in [(str(b), float(b)) for b in cells.shared(arm, other)] + ([("B", half)] if half else []):
        seeds, changes = cells.paired(arm, other, calls)
        if seeds:
            yield at, len(seeds), changes


def saturation(cells: Cells) -> dict[str, Any]:
    """Calls at which uniform saturates and at which every arm gets there, along straight lines between budgets.

    On the seeds that uniform has at all its budgets; of another arm on those of them that it has at any budget.
    """
    seeds = cells.seeds("uniform", *cells.budgets("uniform"), LARGEST)
    if not seeds:
        return {}
    curve = cells.curve("uniform", seeds)
    level = curve[0][1] + SATURATED * (curve[-1][1] - curve[0][1])
    uniform = calls_to(level, curve)
    assert uniform is not None, "a curve reaches 95 % of its own end"
    reached = [reaching(cells, arm, seeds, level, uniform) for arm in ARMS]
    return {"level": level, "seeds": len(seeds), "calls": uniform, "B": uniform / 2, "arms": [r for r in reached if r]}


def reaching(cells: Cells, arm: str, seeds: Sequence[int], level: float, uniform: float) -> dict[str, Any]:
    """Calls of one arm to uniform's saturated macro; `highest` is its last budget, beyond which nothing is known."""
    own = [seed for seed in seeds if any(seed in cells.seeds(arm, b) for b in cells.budgets(arm))]
    curve = cells.curve(arm, own)
    if not own or len(curve) < 2:
        return {}
    calls = calls_to(level, curve)
    ratio = calls / uniform if calls is not None else None
    return {"arm": arm, "seeds": len(own), "highest": curve[-1][0], "calls": calls, "of uniform's": ratio}


def equivalence(cells: Cells, half: float | None) -> list[dict[str, Any]]:
    """Whether the shuffled control does as random: the 95 % interval of the macro difference within +-0.01."""
    found = []
    for at, seeds, changes in paired(cells, "shuffled", "random", half):
        change = changes["macro"]
        shown = "equivalent" if change.within(EQUIVALENT) else "equivalence not shown"
        found.append({"at": at, "seeds": seeds, "macro": list(change), "is": shown, "and": change.told})
    return found


def missing(cells: Cells, seeds: Sequence[int]) -> list[str]:
    """Cells of the full table that are not there, a line per arm and budget."""
    absent = [key for key in product(ARMS, cells.budgets(), seeds) if (key[0], key[2], key[1]) not in cells.cells]
    grouped = groupby(absent, key=lambda key: key[:2])
    return [f"{arm} at {budget}: seeds {', '.join(str(k[2]) for k in keys)}" for (arm, budget), keys in grouped]


def show(result: Mapping[str, Any]) -> None:
    """Print it all, lost comparisons as plainly as won ones."""
    console = Console(width=220)
    console.print(f"[bold]{result['note']}; here seeds {result['judged_on']}")
    untrained = {"arm": "untrained", **result["base"]}
    console.print(table("Accuracy at equal teacher calls and updates", [*result["rows"], untrained]))
    console.print(table("Differences, paired, 95 % intervals", result["compared"]))
    if saturated := result["saturation"]:
        told = (
            "Calls to {level:.3f} macro, 95 % of uniform's final gain: uniform {calls:.0f} (B = {B:.0f}), {seeds} seeds"
        )
        console.print(table(told.format(**saturated), saturated["arms"]))
    title = f"Control: shuffled - random within +-{EQUIVALENT}, by its 95 % interval"
    console.print(table(title, result["equivalence"]))
    console.print(table("Seed of choice: judges nothing", result["seed_of_choice"]))
    for line in result["missing"]:
        console.print(f"missing: {line}")


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows that may lack columns."""
    made = Table(title=title)
    names = list(dict.fromkeys(name for values in rows for name in values))
    for name in names:
        made.add_column(name)
    for values in rows:
        made.add_row(*[_shown(name, values.get(name)) for name in names])
    return made


def _shown(name: str, value: object) -> str:
    if isinstance(value, list):
        return str(Difference(*value))
    if isinstance(value, float):
        return f"{value:.0f}" if name in ("diagnosis", "labelling", "samples", "updates", "calls") else f"{value:.3f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
