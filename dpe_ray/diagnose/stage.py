"""Where the student fails: items are answered, graded, attributed, and counted by category and skill.

On top of that, each for the asking: majority votes where there are no gold answers, missing skills where a rationale
went wrong, and per cell how much it can still learn and what it lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dpe_ray.diagnose.attribute import NOT_JUDGED, AttributeJob, attribute_rows
from dpe_ray.diagnose.canonical import canonicalise
from dpe_ray.diagnose.cells import make_diagnosis
from dpe_ray.diagnose.lacking import Locate, find_lacking
from dpe_ray.diagnose.missing import ONE_SKILL, MissingSettings
from dpe_ray.diagnose.outages import Outages
from dpe_ray.diagnose.routes import Named, RouteSettings, measure_needs
from dpe_ray.diagnose.sampling import Draws, draw_answers
from dpe_ray.diagnose.skills import name_skills
from dpe_ray.diagnose.votes import VoteSettings, vote
from dpe_ray.errors import ConfigError, ModelUnavailable, PoolError
from dpe_ray.grading.answering import answer_all, collect
from dpe_ray.ports import ChatDoor, EmbedderDoor, MapSpec, RowMapper
from dpe_ray.taxonomy import UNSPECIFIED, Taxonomy, canonical
from dpe_ray.types import Attribution, Diagnosis, ErrorRecord, Graded, Sample

More = Callable[[Sequence[Graded]], Sequence[Sample]]
"""Chooses the items of a second batch by what the first one showed."""
UNEXPLAINED = Attribution(NOT_JUDGED, "")


@dataclass(frozen=True)
class Crew:
    """Who is asked, through which mapper, and how many at once."""

    student: ChatDoor
    judge: ChatDoor
    analyst: ChatDoor
    mapper: RowMapper
    max_tokens: int
    workers: tuple[int, int]
    concurrency: int
    prompts: Mapping[str, str]
    outages: Outages = field(default_factory=Outages)


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
    explain: bool = True,
    embedder: EmbedderDoor | None = None,
    more: More | None = None,
    votes: VoteSettings | None = None,
    locate: Locate | None = None,
    missing: MissingSettings = ONE_SKILL,
    routes: RouteSettings | None = None,
) -> tuple[Diagnosis, tuple[Graded, ...]]:
    """Measure and explain the student on the probe; the graded items come back with the skill that each needs.

    Costs one student call and one analyst call per item, one judge call per failure and per answer that rules cannot
    decide. Without `explain` items stay `unspecified` in their categories and failures unattributed, which saves the
    analyst's calls and the judge's per failure. `embedder` also merges skill names by vector. `more` items are
    answered when the probe is. `votes` does without gold answers. `locate` costs what it costs and one analyst call
    per error, `routes` one student call per item and what `measure_needs` asks. Raises PoolError for an empty
    probe, ModelUnavailable when more than half of the items could not be judged or analyst, judge or reader left
    more than half of theirs unanswered, ConfigError for votes together with what compares with gold answers.
    """
    _check(probe, votes, locate, routes)
    crew = Crew(student, judge, analyst, mapper, max_tokens, workers, concurrency, prompts or {})
    # 1  Answer and grade: by the reference, or by the student's own majority.
    graded = await _answered(probe, votes, crew)
    _require_judged(graded)
    if more and (items := more(graded)):
        graded += await _answered(items, votes, crew)
        _require_judged(graded)
    # 2  Name the skill that each item needs.
    graded, tree = await _skilled(graded, taxonomy, embedder, crew) if explain else (_unskilled(graded), taxonomy)
    # 3  Ask why the failed ones failed.
    failed = [g for g in graded if g.verdict.judged and not g.verdict.correct]
    attributions = await _attributed(failed, crew) if explain else {g.sample.id: UNEXPLAINED for g in failed}
    # 4  Find the steps that went wrong, and the skills that were missing there.
    errors = await _lacking(failed, locate, tree, embedder, missing, crew) if locate else ()
    # 5  Sample answers, for what can be learned; change the conditions, for what is lacking.
    drawn = await _drawn([g.sample for g in graded], routes, crew) if routes else {}
    needs = await _needs(graded, drawn, attributions, routes, crew) if routes else {}
    # 6  Count.
    found = make_diagnosis(
        policy_version, graded, attributions, failures_per_cell, errors=errors, drawn=drawn, needs=needs
    )
    return replace(found, unexplained=len(crew.outages)), graded


def _check(
    probe: Sequence[Sample], votes: VoteSettings | None, locate: Locate | None, routes: RouteSettings | None
) -> None:
    if not probe:
        raise PoolError("the probe is empty; give a labelled set with at least one item")
    if votes and (locate or routes):
        raise ConfigError("diagnose: mistakes and routes compare with gold answers; leave them or the votes out")


def _require_judged(graded: Sequence[Graded]) -> None:
    silent = [g for g in graded if not g.verdict.judged]
    if 2 * len(silent) > len(graded):
        raise ModelUnavailable(
            f"diagnosis: {len(graded) - len(silent)} of {len(graded)} probe items could be judged "
            f"({silent[0].verdict.reason}); check the endpoints and resume"
        )


async def _answered(probe: Sequence[Sample], votes: VoteSettings | None, crew: Crew) -> tuple[Graded, ...]:
    if votes:
        return vote(probe, await _drawn(probe, votes, crew), votes.least)
    return await answer_all(
        probe, crew.student, crew.judge, crew.mapper,
        max_tokens=crew.max_tokens, workers=crew.workers, concurrency=crew.concurrency,
        judge_file=crew.prompts.get("judge", ""),
    )  # fmt: skip


async def _drawn(samples: Sequence[Sample], settings: VoteSettings | RouteSettings, crew: Crew) -> dict[str, Draws]:
    return await draw_answers(
        samples, crew.student, crew.mapper,
        k=settings.k, seed=settings.seed,
        max_tokens=crew.max_tokens, workers=crew.workers, concurrency=crew.concurrency,
    )  # fmt: skip


async def _skilled(
    graded: Sequence[Graded], taxonomy: Taxonomy, embedder: EmbedderDoor | None, crew: Crew
) -> tuple[tuple[Graded, ...], Taxonomy]:
    """Give every item its canonical skill, its row's first where it states any, and the tree that holds them all."""
    samples = [g.sample for g in graded]
    said = await name_skills(
        [sample for sample in samples if not sample.skills], crew.analyst, crew.mapper, taxonomy,
        workers=crew.workers, concurrency=crew.concurrency, prompt_file=crew.prompts.get("skill_analyst", ""),
    )  # fmt: skip
    crew.outages.add("skills", "skill_analyst", len(said.names), said.unanswered)
    names_of = said.names | {sample.id: canonical(sample.skills[0]) for sample in samples if sample.skills}
    named: dict[str, list[str]] = {}
    for sample in samples:
        named.setdefault(sample.category, []).append(names_of[sample.id])
    names, tree = await canonicalise(named, taxonomy, embedder)
    skills = [names[sample.category][names_of[sample.id]] for sample in samples]
    return tuple(replace(g, sample=replace(g.sample, skills=(s,))) for g, s in zip(graded, skills, strict=True)), tree


def _unskilled(graded: Sequence[Graded]) -> tuple[Graded, ...]:
    stated = (g.sample.skills[:1] or (UNSPECIFIED,) for g in graded)
    return tuple(replace(g, sample=replace(g.sample, skills=skills)) for g, skills in zip(graded, stated, strict=True))


async def _attributed(failed: Sequence[Graded], crew: Crew) -> dict[str, Attribution]:
    job = AttributeJob(crew.judge, crew.prompts.get("judge", ""))
    spec = MapSpec(attribute_rows, job, crew.workers, crew.concurrency, "attribute")
    rows = [{"id": g.sample.id, "graded": g} for g in failed]
    said: dict[str, Attribution] = await collect(crew.mapper, spec, rows, "attribution")
    unanswered = {id_: why.unanswered for id_, why in said.items() if why.unanswered}
    crew.outages.add("failures", "judge", len(said), unanswered)
    return said


async def _lacking(
    failed: Sequence[Graded],
    locate: Locate,
    tree: Taxonomy,
    embedder: EmbedderDoor | None,
    settings: MissingSettings,
    crew: Crew,
) -> tuple[ErrorRecord, ...]:
    return await find_lacking(
        failed, locate, crew.analyst, crew.mapper, tree, crew.outages,
        workers=crew.workers, concurrency=crew.concurrency,
        settings=settings, embedder=embedder, prompt_file=crew.prompts.get("error_analyst", ""),
    )  # fmt: skip


async def _needs(
    graded: Sequence[Graded],
    drawn: Mapping[str, Draws],
    attributions: Mapping[str, Attribution],
    settings: RouteSettings,
    crew: Crew,
) -> dict[str, Named]:
    return await measure_needs(
        graded, drawn, attributions, crew.student, crew.judge, crew.mapper,
        settings=settings, max_tokens=crew.max_tokens, workers=crew.workers, concurrency=crew.concurrency,
        prompts=crew.prompts,
    )  # fmt: skip
