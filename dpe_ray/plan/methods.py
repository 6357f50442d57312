"""Ways to weigh cells: each is a function from a diagnosis to an unscaled weight (0 or more) per `category/skill`."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from dpe_ray.grading.posterior import Tally, estimate
from dpe_ray.plan.missing_skills import weights_by_cell
from dpe_ray.types import CellDiagnosis, ErrorRecord, Need

log = logging.getLogger(__name__)

TIERS = ((0.70, 2.0), (0.75, 1.5), (0.85, 1.0), (0.90, 0.8))
"""(accuracy below, utility), DPE's (arXiv 2602.22859, public code)."""
MASTERED = 0.5
"""Utility above the last tier."""


@dataclass(frozen=True)
class Evidence:
    """What weights are made from."""

    cells: Sequence[CellDiagnosis]
    errors: Sequence[ErrorRecord] = ()
    target: Mapping[str, float] = field(default_factory=dict)
    """Shares of the target distribution by category or by `category/skill`, any scale; empty: all cells equal."""
    yields: Mapping[str, float] = field(default_factory=dict)
    """Share of a cell's candidates whose pass rate lay in the band so far, 0-1."""
    taught: Collection[Need] = tuple(Need)
    """What training can meet."""


def tier(accuracy: float) -> float:
    """u(a): 2.0 below .70, 1.5 below .75, 1.0 below .85, 0.8 below .90, else 0.5."""
    return next((utility for limit, utility in TIERS if accuracy < limit), MASTERED)


def tiered(evidence: Evidence) -> dict[str, float]:
    """DPE's: u of the raw accuracy.

    A cell without a judged item takes the accuracy of its category; in a category without any it weighs 0: its weakness
    is unknown, not proven.
    """
    judged: dict[str, tuple[int, int]] = {}
    for cell in evidence.cells:
        n, correct = judged.get(cell.category, (0, 0))
        judged[cell.category] = (n + cell.attempts, correct + cell.correct)
    weights = {}
    for cell in evidence.cells:
        n, correct = (cell.attempts, cell.correct) if cell.attempts else judged[cell.category]
        weights[cell.cell] = tier(correct / n) if n else 0.0
    return weights


def error_count(evidence: Evidence) -> dict[str, float]:
    """Error-driven tuning's (arXiv 2412.15652, section 3): every error weighs the same.

    An error belongs to the cells of the skills that it misses; without mistake identification to the cell it was
    asked in.
    """
    if any(error.skills for error in evidence.errors):
        found = weights_by_cell(evidence.errors)
        return {cell.cell: found.get(cell.cell, 0.0) for cell in evidence.cells}
    return {cell.cell: float(cell.attempts - cell.correct) for cell in evidence.cells}


def posterior(evidence: Evidence) -> dict[str, float]:
    """Share x need x learnability, where need = 1 - posterior mean of the accuracy; 0 where training cannot help.

    A missing skill that no probe item asked for has no accuracy of its own: it takes over the part of its category's
    weight that its errors have among the category's.
    """
    shares, learnabilities = _shares(evidence), _learnabilities(evidence)
    found = estimate([Tally(cell.category, cell.attempts, cell.correct) for cell in evidence.cells])
    weights = {
        cell.cell: shares[cell.cell] * (1.0 - known.mean) * learnabilities[cell.cell]
        for cell, known in zip(evidence.cells, found, strict=True)
    }
    return handed_over(weights, evidence)


def handed_over(weights: Mapping[str, float], evidence: Evidence) -> dict[str, float]:
    """Weights of the same sum in every category, where cells of missing skills that were never asked weigh as errors.

    What they take is taken from the category's other cells in proportion. A category without an asked cell, and one
    whose errors name none of the missing skills, stays as it is. Without a target a category weighs what its asked
    cells weigh: names of skills that nobody asked for make it no larger.
    """
    lacking = weights_by_cell(evidence.errors)
    members: dict[str, list[CellDiagnosis]] = {}
    for cell in evidence.cells:
        members.setdefault(cell.category, []).append(cell)
    dealt = dict(weights)
    for cells in members.values():
        asked = {cell.cell for cell in cells if cell.attempts or cell.cell not in lacking}
        errors = sum(lacking.get(cell.cell, 0.0) for cell in cells)
        whole = sum(weights[name] for name in asked)
        pot = sum(weights[cell.cell] for cell in cells) if evidence.target else whole
        unasked = {cell.cell: lacking[cell.cell] / errors for cell in cells if cell.cell not in asked}
        if asked and unasked:
            kept = (1.0 - sum(unasked.values())) * pot / whole if whole else 0.0
            dealt |= {name: kept * weights[name] for name in asked}
            dealt |= {name: part * pot for name, part in unasked.items()}
    return dealt


def uniform(evidence: Evidence) -> dict[str, float]:
    """Ablation: the diagnosis decides nothing, all cells weigh the same."""
    return {cell.cell: 1.0 for cell in evidence.cells}


METHODS: Mapping[str, Callable[[Evidence], dict[str, float]]] = {
    "tiered": tiered,
    "error_count": error_count,
    "posterior": posterior,
    "uniform": uniform,
}


def _shares(evidence: Evidence) -> dict[str, float]:
    """A category's share is split evenly among the cells that the target does not name themselves."""
    if not evidence.target:
        return {cell.cell: 1.0 for cell in evidence.cells}
    heirs: dict[str, int] = {}
    for cell in evidence.cells:
        heirs[cell.category] = heirs.get(cell.category, 0) + (cell.cell not in evidence.target)
    unmet = set(evidence.target) - {cell.cell for cell in evidence.cells} - set(heirs)
    if unmet:
        log.warning("plan.target: the diagnosis has no cell of %s; the others share its part", ", ".join(sorted(unmet)))
    return {
        cell.cell: evidence.target[cell.cell]
        if cell.cell in evidence.target
        else evidence.target.get(cell.category, 0.0) / heirs[cell.category]
        for cell in evidence.cells
    }


def _learnabilities(evidence: Evidence) -> dict[str, float]:
    """0-1 by cell: 4 x the measured p(1-p), else the share of candidates in the band.

    Where neither is known it is the mean of the known ones, and also where reinforcement is not what the cell needs:
    no answer of k is right there, which speaks against GRPO on it, not against teaching it. What cannot be taught is 0.
    """
    known: dict[str, float] = {}
    for cell in evidence.cells:
        if cell.need in (None, Need.ELICITABLE):
            if cell.learnability is not None:
                known[cell.cell] = min(1.0, 4.0 * cell.learnability)
            elif cell.cell in evidence.yields:
                known[cell.cell] = evidence.yields[cell.cell]
    typical = fmean(known.values()) if any(known.values()) else 1.0
    lost = {cell.cell for cell in evidence.cells if cell.need is not None and cell.need not in evidence.taught}
    return {cell.cell: 0.0 if cell.cell in lost else known.get(cell.cell, typical) for cell in evidence.cells}
