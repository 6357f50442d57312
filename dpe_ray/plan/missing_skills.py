"""What mistake identification adds to a plan: cells, weights and queries, from the skills whose lack caused errors."""

from collections.abc import Sequence
from dataclasses import replace

from dpe_ray.types import CellDiagnosis, Diagnosis, ErrorRecord


def with_missing_skills(diagnosis: Diagnosis) -> Diagnosis:
    """Give every missing skill a cell, also those that no probe item was filed under; cells stay in order of name."""
    known = {cell.cell for cell in diagnosis.cells}
    missing = {
        f"{error.category}/{skill.name}": CellDiagnosis(error.category, skill.name, 0, 0, 0.0, 1.0, {})
        for error in diagnosis.errors
        for skill in error.skills
    }
    added = [cell for name, cell in missing.items() if name not in known]
    if not added:
        return diagnosis
    return replace(diagnosis, cells=tuple(sorted((*diagnosis.cells, *added), key=lambda c: (c.category, c.skill))))


def weights_by_cell(errors: Sequence[ErrorRecord]) -> dict[str, float]:
    """Sum of the errors' skill weights by `category/skill`: every error with a usable skill counts 1."""
    weights: dict[str, float] = {}
    for error in errors:
        for skill in error.skills:
            cell = f"{error.category}/{skill.name}"
            weights[cell] = weights.get(cell, 0.0) + skill.weight
    return weights


def queries_by_cell(errors: Sequence[ErrorRecord]) -> dict[str, tuple[str, ...]]:
    """The analyst's words by `category/skill`, one per error and skill, in the order of the errors."""
    queries: dict[str, tuple[str, ...]] = {}
    for error in errors:
        for skill in error.skills:
            cell = f"{error.category}/{skill.name}"
            queries[cell] = (*queries.get(cell, ()), skill.text)
    return queries
