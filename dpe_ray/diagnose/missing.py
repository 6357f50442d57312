"""Which skill was missing when a rationale went wrong (arXiv 2412.15652: skill analysis), and its two ablations.

The analyst sees question, options, reference, the wrong answer and the steps with the located one marked; unlike the
teacher that located the step it also sees the image, without which a misperception looks like bad reasoning.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from dpe_ray.diagnose.canonical import canonicalise
from dpe_ray.diagnose.usable import refusal
from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.grading.answering import collect
from dpe_ray.grading.prompt import lettered_options
from dpe_ray.grading.repair import ask
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatDoor, ChatModel, ChatRequest, EmbedderDoor, MapSpec, Message, Row, RowMapper
from dpe_ray.taxonomy import UNSPECIFIED, Taxonomy, canonical
from dpe_ray.types import ErrorRecord, MissingSkill, Sample

LONGEST_NAME = 6
MAX_TOKENS = 400
OUTAGE = "outage"
"""How `dropped` begins where the analyst did not answer: out of reach, or it refuses us."""

log = logging.getLogger(__name__)


class NamedSkill(BaseModel):
    """One skill in an analyst's reply."""

    name: str
    skill: str
    weight: float = Field(default=1.0, gt=0)


class SkillAnalysis(BaseModel):
    """The analyst's reply."""

    skills: list[NamedSkill] = Field(min_length=1)
    evidence: str = ""
    error_kind: Literal["perception", "knowledge", "reasoning", "instruction", "format"]


@dataclass(frozen=True)
class MissingSettings:
    """How missing skills are found; the defaults are the paper's method."""

    most: int = 1
    """One skill per error, or two to this many, 3 at the most, with weights that sum to 1."""
    localise: bool = True
    """False: no step is marked (ablation `no localisation`)."""
    analyse: bool = True
    """False: nobody is asked, the located step itself is what is retrieved by (ablation `no skill analysis`)."""


ONE_SKILL = MissingSettings()


@dataclass(frozen=True)
class MissingJob:
    """What a worker needs for rows `{"id", "error", "sample", "known"}`."""

    analyst: ChatDoor
    settings: MissingSettings
    prompt_file: str = ""
    """The user's own prompt."""


async def find_missing_skills(
    errors: Sequence[ErrorRecord],
    samples: Mapping[str, Sample],
    analyst: ChatDoor,
    mapper: RowMapper,
    taxonomy: Taxonomy,
    *,
    workers: tuple[int, int],
    concurrency: int,
    settings: MissingSettings = ONE_SKILL,
    embedder: EmbedderDoor | None = None,
    prompt_file: str = "",
) -> tuple[ErrorRecord, ...]:
    """Fill in skills, or why there are none, in the order of `errors`; `samples` by id.

    One call per error, two when the first reply cannot be used; none for rationales that could not be read, and none
    at all without analysis. Names are merged into those of `taxonomy` and with each other (`canonical.canonicalise`).
    """
    readable = [error for error in errors if error.location.status != "unparsable"]
    rows = [
        {"id": e.sample_id, "error": e, "sample": samples[e.sample_id], "known": taxonomy.known(e.category)}
        for e in readable
    ]
    spec = MapSpec(missing_rows, MissingJob(analyst, settings, prompt_file), workers, concurrency, "missing skills")
    found: dict[str, ErrorRecord] = await collect(mapper, spec, rows, "error")
    unread = "unparsable: the rationale has no steps"
    analysed = [found.get(e.sample_id) or replace(e, dropped=unread) for e in errors]
    said: dict[str, list[str]] = {}
    for error in analysed:
        said.setdefault(error.category, []).extend(skill.name for skill in error.skills)
    names = (await canonicalise(said, taxonomy, embedder)).names
    return tuple(replace(e, skills=_renamed(e.skills, names[e.category])) for e in analysed)


def missing_rows(job: MissingJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the analyst's door and build the row function: it gives `{"id", "error"}` with skills or a reason."""
    analyst, prompt = job.analyst.open(), PromptFile.load("dpe_ray.diagnose", "error_analyst", job.prompt_file)

    async def analyse_row(row: Row) -> Row:
        error, sample = row["error"], row["sample"]
        if not job.settings.analyse:
            return {"id": row["id"], "error": _step_as_skill(error, sample)}
        request = _request(error, sample, row["known"], prompt, job.settings)
        return {"id": row["id"], "error": await _analysed(error, request, sample, row["known"], analyst, job.settings)}

    return analyse_row


def _step_as_skill(error: ErrorRecord, sample: Sample) -> ErrorRecord:
    step = error.location.step
    if step is None:
        return replace(error, dropped="no step: the method abstained, and nobody is asked")
    name = sample.skills[0] if sample.skills else UNSPECIFIED
    return replace(error, skills=(MissingSkill(name, error.steps[step - 1]),), evidence=error.steps[step - 1])


def _request(
    error: ErrorRecord, sample: Sample, known: Sequence[str], prompt: PromptFile, settings: MissingSettings
) -> ChatRequest:
    shown = prompt.render(
        category=error.category,
        question=sample.question,
        options=lettered_options(sample),
        reference=sample.answer.value,
        answer=error.answer,
        steps=error.steps,
        marked=error.location.step if settings.localise else None,
        most=settings.most,
        known=known,
    )
    message = Message("user", shown, sample.images)
    return ChatRequest((message,), "skill_analyst", sample.id, prompt.label, max_tokens=MAX_TOKENS)


async def _analysed(
    error: ErrorRecord,
    request: ChatRequest,
    sample: Sample,
    known: Sequence[str],
    analyst: ChatModel,
    settings: MissingSettings,
) -> ErrorRecord:
    try:
        said = await ask(analyst, request, usable_analysis(sample, known, settings.most))
    except (ModelUnavailable, BadRequest, BadReply) as failure:
        log.warning("missing skill of %s: %s", error.sample_id, failure)
        return replace(error, dropped=f"{'unusable' if isinstance(failure, BadReply) else OUTAGE}: {failure}")
    total = sum(skill.weight for skill in said.skills)
    skills = tuple(MissingSkill(canonical(s.name), s.skill.strip(), s.weight / total) for s in said.skills)
    return replace(error, skills=skills, evidence=said.evidence.strip(), error_kind=said.error_kind)


def usable_analysis(sample: Sample, known: Sequence[str], most: int) -> type[SkillAnalysis]:
    """The reply's form for one item: it refuses a wrong number of skills and skills that cannot be used.

    A refusal is a validation error, so the analyst is told why and asked once more, as for a broken reply.
    """
    fewest = min(2, most)

    class UsableAnalysis(SkillAnalysis):
        @model_validator(mode="after")
        def _usable(self) -> "UsableAnalysis":
            if not fewest <= len({canonical(s.name) for s in self.skills}) == len(self.skills) <= most:
                raise ValueError(f"number: give {fewest}{f' to {most}' if most > fewest else ''} different skills")
            for said in self.skills:
                why = refusal(said.name, sample, known, LONGEST_NAME) or refusal(said.skill, sample, known)
                if why:
                    raise ValueError(why)
            return self

    return UsableAnalysis


def _renamed(skills: Sequence[MissingSkill], names: Mapping[str, str]) -> tuple[MissingSkill, ...]:
    """Two skills of one error that turn out to be one join their weights; the wording is the first one's."""
    merged: dict[str, MissingSkill] = {}
    for skill in skills:
        name = names[skill.name]
        known = merged.get(name)
        merged[name] = replace(known or skill, name=name, weight=skill.weight + (known.weight if known else 0.0))
    return tuple(merged.values())
