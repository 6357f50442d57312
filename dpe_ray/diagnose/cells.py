"""From graded items to a Diagnosis: counting by category and skill, nothing asked."""

from collections import Counter
from collections.abc import Mapping, Sequence

from dpe_ray.diagnose.routes import Named, cell_of, route
from dpe_ray.diagnose.sampling import Draws, learnability
from dpe_ray.grading.intervals import wilson
from dpe_ray.types import Attribution, CellDiagnosis, Diagnosis, ErrorRecord, Failure, Graded, content_id


def make_diagnosis(
    policy_version: int,
    graded: Sequence[Graded],
    attributions: Mapping[str, Attribution],
    failures_per_cell: int,
    *,
    errors: Sequence[ErrorRecord] = (),
    drawn: Mapping[str, Draws] | None = None,
    needs: Mapping[str, Named] | None = None,
) -> Diagnosis:
    """Count graded items by category and skill, cells in alphabetical order.

    `attributions` (of failed items), `drawn` and `needs` are by sample id.
    """
    members: dict[tuple[str, str], list[Graded]] = {}
    for item in graded:
        members.setdefault(cell_of(item), []).append(item)
    return Diagnosis(
        policy_version=policy_version,
        cells=tuple(
            _cell(*key, members[key], attributions, failures_per_cell, drawn or {}, needs or {})
            for key in sorted(members)
        ),
        probe=content_id(sorted(g.sample.id for g in graded)),
        probed=len(graded),
        not_judged=sum(not g.verdict.judged for g in graded),
        errors=tuple(errors),
    )


def _cell(
    category: str,
    skill: str,
    items: Sequence[Graded],
    attributions: Mapping[str, Attribution],
    examples: int,
    drawn: Mapping[str, Draws],
    needs: Mapping[str, Named],
) -> CellDiagnosis:
    judged = [g for g in items if g.verdict.judged]
    failed = [g for g in judged if not g.verdict.correct]
    correct = len(judged) - len(failed)
    types = Counter(attributions[g.sample.id].error_type for g in failed)
    named = [needs[g.sample.id] for g in failed if g.sample.id in needs]
    need, counts = route(named)
    # A failure that nobody explained tells the planner nothing: explained ones first.
    told = sorted(failed, key=lambda g: not attributions[g.sample.id].description)[:examples]
    return CellDiagnosis(
        category,
        skill,
        attempts=len(judged),
        correct=correct,
        **wilson(correct, len(judged))._asdict(),
        error_types=dict(sorted(types.items())),
        failures=tuple(_failure(g, attributions[g.sample.id]) for g in told),
        learnability=learnability([drawn[g.sample.id] for g in items if g.sample.id in drawn]),
        need=need,
        needs=counts,
        measured_by=dict(Counter(found.by for found in named).most_common()),
    )


def _failure(item: Graded, attribution: Attribution) -> Failure:
    return Failure(item.sample.id, item.sample.question, item.sample.answer.value, item.text, attribution)
