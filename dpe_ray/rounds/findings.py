"""What the report says of a diagnosis and of the plan made of it: rows of its tables, nothing measured anew."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dpe_ray.diagnose.attribute import NOT_JUDGED
from dpe_ray.plan.missing_skills import weights_by_cell
from dpe_ray.types import CellDiagnosis, DataPlan, Diagnosis, ErrorRecord, Failure, Need, Sample

MISTAKES_SHOWN = 3
"""Located mistakes whose steps are shown."""
SKILLS_SHOWN = 20
LOCATED = {"found": "located", "fallback": "located by the largest jump"}
MEASURED_BY = {
    "read": "the judge reads an answer that rules cannot",
    "sampled": "a sampled answer is right",
    "facts": "right when told the facts",
    "zoom": "right when enlarged",
    "shuffled": "right in another order of options",
    "judge": "seen wrongly, says the judge",
    "none": "nothing repaired it",
}
"""What `CellDiagnosis.measured_by` counts, in words."""


class PlanRow(NamedTuple):
    """One cell of a round's plan: how weak it is, and what it was given."""

    cell: str
    error_rate: float | None
    """0-1 on the probe; None for a cell that no probe item was filed under."""
    lacked: float
    """Errors in which its skill was missing; a part of one where an error lacks several skills."""
    need: Need | None
    """None where it was not measured."""
    weight: float
    quota: int
    accepted: int


class MissingRow(NamedTuple):
    """One skill that was missing, and in how many errors."""

    cell: str
    errors: int


class Mistakes(NamedTuple):
    """What became of the wrong answers that were looked through for the step that errs."""

    method: str
    outcomes: dict[str, int]
    """Errors by outcome, most frequent first: located, abstained, unparsable, ..."""
    without_skill: int
    """Errors for which no missing skill could be named."""
    skills: list[MissingRow]
    """The most frequent first."""
    shown: list[tuple[ErrorRecord, Failure | None]]
    """Located ones of different categories, with question and reference where the diagnosis keeps them."""


def plan_rows(plan: DataPlan | None, diagnosis: Diagnosis | None, accepted: Iterable[Sample]) -> list[PlanRow]:
    """List the plan's cells, largest quota first, beside what the diagnosis says of them."""
    if plan is None:
        return []
    known = {cell.cell: cell for cell in diagnosis.cells} if diagnosis else {}
    lacked = weights_by_cell(diagnosis.errors) if diagnosis else {}
    filled = Counter(sample.provenance.cell for sample in accepted)
    rows = []
    for cell in sorted(plan.cells, key=lambda c: (-c.quota, c.cell)):
        seen = known.get(cell.cell)
        error_rate = 1 - seen.accuracy if seen and seen.attempts else None
        need, lacks = seen.need if seen else None, lacked.get(cell.cell, 0.0)
        rows.append(PlanRow(cell.cell, error_rate, lacks, need, cell.weight, cell.quota, filled[cell.cell]))
    return rows


def reasons(cell: CellDiagnosis) -> str:
    """Why the cell's answers were wrong, the most frequent reason first; it also says when nobody was asked."""
    asked = any(failure.attribution.unanswered for failure in cell.failures)
    words = {NOT_JUDGED: "judge did not answer" if asked else "reason not asked"}
    counts = sorted(cell.error_types.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{words.get(kind, kind.replace('_', ' '))} {n}" for kind, n in counts if n)


def lacking(cell: CellDiagnosis) -> str:
    """What the cell's failed items lack, and by which change of conditions that was measured; empty when it was not."""
    kinds = ", ".join(f"{kind} {n}" for kind, n in cell.needs.items())
    how = "; ".join(f"{MEASURED_BY.get(by, by)} {n}" for by, n in cell.measured_by.items())
    return f"{kinds} ({how})" if how else kinds


def mistakes(diagnosis: Diagnosis) -> Mistakes | None:
    """Sum up the errors that were analysed; None when none was."""
    errors = diagnosis.errors
    if not errors:
        return None
    outcomes = Counter(LOCATED.get(error.location.status, error.location.status) for error in errors)
    lacked = Counter(f"{error.category}/{skill.name}" for error in errors for skill in error.skills)
    failures = {failure.sample_id: failure for cell in diagnosis.cells for failure in cell.failures}
    return Mistakes(
        errors[0].location.method,
        dict(outcomes.most_common()),
        sum(not error.skills for error in errors),
        [MissingRow(*row) for row in lacked.most_common(SKILLS_SHOWN)],
        [(error, failures.get(error.sample_id)) for error in _examples(errors, failures.keys())],
    )


def _examples(errors: Sequence[ErrorRecord], told: Iterable[str]) -> list[ErrorRecord]:
    """Located ones, each category once as long as there are others; those with a known question and a skill first."""
    known = set(told)
    located = [error for error in errors if error.location.step]
    located.sort(key=lambda error: (error.sample_id not in known, not error.skills))
    first = {error.category: error for error in reversed(located)}
    ordered = [error for error in located if first[error.category] is error]
    return [*ordered, *(error for error in located if error not in ordered)][:MISTAKES_SHOWN]
