"""Where the student fails: one greedy answer per probe item, graded, attributed, and counted by category and skill."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dpe_ray.diagnose.attribute import AttributeJob, attribute_rows
from dpe_ray.diagnose.skills import name_skills
from dpe_ray.errors import ModelUnavailable, PoolError
from dpe_ray.grading.answering import answer_all, collect
from dpe_ray.grading.intervals import wilson
from dpe_ray.ports import ChatDoor, MapSpec, RowMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import Attribution, CellDiagnosis, Diagnosis, Failure, Graded, Sample, content_id


async def diagnose(
    policy_version: int,
    probe: Sequence[Sample],
    student: ChatDoor,
    judge: ChatDoor,
    analyst: ChatDoor,
    mapper: RowMapper,
    *,
    taxonomy: Taxonomy,
    max_tokens: int,
    failures_per_cell: int,
    workers: tuple[int, int],
    concurrency: int,
    prompts: Mapping[str, str] | None = None,
) -> tuple[Diagnosis, tuple[Graded, ...]]:
    """Measure and explain the student on the probe; the graded items come back with the skill that each needs.

    Costs one student call and one analyst call per item, one judge call per failure and per answer that rules cannot
    decide. Raises PoolError for an empty probe and ModelUnavailable when not one item could be judged.
    """
    if not probe:
        raise PoolError("the probe is empty; give a labelled set with at least one item")
    prompts, judge_file = prompts or {}, (prompts or {}).get("judge", "")
    # 1  Answer and grade.
    graded = await answer_all(
        probe,
        student,
        judge,
        mapper,
        max_tokens=max_tokens,
        workers=workers,
        concurrency=concurrency,
        judge_file=judge_file,
    )
    if not any(g.verdict.judged for g in graded):
        raise ModelUnavailable(f"no probe item could be judged ({graded[0].verdict.reason}); check the endpoints")
    # 2  Name the skill that each item needs.
    skills = await name_skills(
        probe,
        analyst,
        mapper,
        taxonomy,
        workers=workers,
        concurrency=concurrency,
        prompt_file=prompts.get("skill_analyst", ""),
    )
    graded = tuple(replace(g, sample=replace(g.sample, skills=(skills[g.sample.id],))) for g in graded)
    # 3  Ask why the failed ones failed.
    failed = [{"id": g.sample.id, "graded": g} for g in graded if g.verdict.judged and not g.verdict.correct]
    spec = MapSpec(attribute_rows, AttributeJob(judge, judge_file), workers, concurrency, "attribute")
    attributions = await collect(mapper, spec, failed, "attribution")
    return make_diagnosis(policy_version, graded, attributions, failures_per_cell), graded


def make_diagnosis(
    policy_version: int, graded: Sequence[Graded], attributions: Mapping[str, Attribution], failures_per_cell: int
) -> Diagnosis:
    """Count graded items by category and skill, cells in alphabetical order; `attributions` by id of failed items."""
    members: dict[tuple[str, str], list[Graded]] = {}
    for item in graded:
        members.setdefault((item.sample.category, item.sample.skills[0]), []).append(item)
    return Diagnosis(
        policy_version=policy_version,
        cells=tuple(_cell(*key, members[key], attributions, failures_per_cell) for key in sorted(members)),
        probe=content_id(sorted(g.sample.id for g in graded)),
        probed=len(graded),
        not_judged=sum(not g.verdict.judged for g in graded),
    )


def _cell(
    category: str, skill: str, items: Sequence[Graded], attributions: Mapping[str, Attribution], examples: int
) -> CellDiagnosis:
    judged = [g for g in items if g.verdict.judged]
    failed = [g for g in judged if not g.verdict.correct]
    correct = len(judged) - len(failed)
    types = Counter(attributions[g.sample.id].error_type for g in failed)
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
    )


def _failure(item: Graded, attribution: Attribution) -> Failure:
    return Failure(item.sample.id, item.sample.question, item.sample.answer.value, item.text, attribution)
