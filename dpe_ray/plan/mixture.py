"""Mixture weights over cells: weak cells get more (DPE, arXiv 2602.22859, public code), no category gets nothing."""

from collections.abc import Mapping, Sequence

from dpe_ray.types import CellDiagnosis

TIERS = ((0.70, 2.0), (0.75, 1.5), (0.85, 1.0), (0.90, 0.8))
"""(accuracy below, utility), DPE's."""
MASTERED = 0.5
"""Utility above the last tier."""


def tiered(accuracy: float) -> float:
    """u(a): 2.0 below .70, 1.5 below .75, 1.0 below .85, 0.8 below .90, else 0.5."""
    return next((utility for limit, utility in TIERS if accuracy < limit), MASTERED)


def mixture(cells: Sequence[CellDiagnosis], floor: float) -> dict[str, float]:
    """Weight per `category/skill`, summing to 1: w = u / sum u, every category lifted to at least `floor`.

    A cell without a judged item takes the accuracy of its category; a category without any gets the floor, split
    evenly: its weakness is unknown, not proven. A floor too high for the number of categories becomes an even share.
    """
    utilities = _utilities(cells)
    by_category: dict[str, list[CellDiagnosis]] = {}
    for cell in cells:
        by_category.setdefault(cell.category, []).append(cell)
    raw = {name: sum(utilities[c.cell] for c in members) for name, members in by_category.items()}
    lifted = with_floor(raw, floor)
    return {
        cell.cell: lifted[name] * (utilities[cell.cell] / raw[name] if raw[name] else 1 / len(members))
        for name, members in by_category.items()
        for cell in members
    }


def with_floor(raw: Mapping[str, float], floor: float) -> dict[str, float]:
    """Scale weights (0 or more) to sum 1 with none below `floor`, the others in proportion."""
    floor = min(floor, 1.0 / len(raw))
    lifted: set[str] = set()
    while True:
        free = {name: weight for name, weight in raw.items() if name not in lifted}
        rest, whole = 1.0 - floor * len(lifted), sum(free.values())
        if whole == 0:  # nobody is known to be weak: an even share
            return {name: floor if name in lifted else rest / len(free) for name in raw}
        low = {name for name, weight in free.items() if rest * weight / whole < floor}
        if not low:
            return {name: floor if name in lifted else rest * raw[name] / whole for name in raw}
        lifted |= low


def _utilities(cells: Sequence[CellDiagnosis]) -> dict[str, float]:
    judged: dict[str, tuple[int, int]] = {}
    for cell in cells:
        n, correct = judged.get(cell.category, (0, 0))
        judged[cell.category] = (n + cell.attempts, correct + cell.correct)
    utilities = {}
    for cell in cells:
        n, correct = (cell.attempts, cell.correct) if cell.attempts else judged[cell.category]
        utilities[cell.cell] = tiered(correct / n) if n else 0.0
    return utilities
