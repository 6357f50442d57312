"""From graded answers to a Diagnosis: counting by category and skill, nothing asked."""

from collections import Counter
from collections.abc import Sequence

from dpe_ray.errors import PoolError
from dpe_ray.grading.intervals import wilson
from dpe_ray.grading.rules import needs_judge
from dpe_ray.taxonomy import UNSPECIFIED
from dpe_ray.types import Attribution, CellDiagnosis, Diagnosis, Failure, Graded, VerdictKind, content_id

UNPARSABLE = "unparsable"
"""Error type of an answer without a form that can be graded."""
UNDECIDED = "undecidable"
"""Error type of a text that rules cannot tell from the reference. It counts as wrong: a judge may find it right."""
WRONG = "wrong"
"""Error type of an answer that rules found wrong."""
EXAMPLES = 3
"""Failures kept per cell."""


def diagnose_responses(graded: Sequence[Graded]) -> Diagnosis:
    """Count graded answers by category and skill, cells in alphabetical order; several answers to an item all count.

    No judge saw them: a failure's error type is `wrong`, `undecidable` or `unparsable`, and where there are undecidable
    ones the accuracy is a lower bound. Raises PoolError without any answer.
    """
    if not graded:
        raise PoolError("no response to diagnose; give a file with at least one")
    members: dict[tuple[str, str], list[Graded]] = {}
    for item in graded:
        members.setdefault((item.sample.category, next(iter(item.sample.skills), UNSPECIFIED)), []).append(item)
    return Diagnosis(
        policy_version=0,
        cells=tuple(_cell(*key, members[key]) for key in sorted(members)),
        probe=content_id(sorted(g.sample.id for g in graded)),
        probed=len(graded),
        not_judged=sum(not g.verdict.judged for g in graded),
    )


def _cell(category: str, skill: str, items: Sequence[Graded]) -> CellDiagnosis:
    judged = [g for g in items if g.verdict.judged]
    failures = [_failure(g) for g in judged if not g.verdict.correct]
    correct = len(judged) - len(failures)
    return CellDiagnosis(
        category,
        skill,
        attempts=len(judged),
        correct=correct,
        **wilson(correct, len(judged))._asdict(),
        error_types=dict(sorted(Counter(f.attribution.error_type for f in failures).items())),
        failures=tuple(failures[:EXAMPLES]),
    )


def _failure(item: Graded) -> Failure:
    kind = WRONG
    if item.verdict.kind is VerdictKind.UNPARSABLE:
        kind = UNPARSABLE
    elif needs_judge(item.verdict):
        kind = UNDECIDED
    why = Attribution(kind, item.verdict.reason)
    return Failure(item.sample.id, item.sample.question, item.sample.answer.value, item.text, why)
