"""Which skill an item needs: one name per item from the skill analyst, since probe items carry none.

The items of one category go through one row in small batches, and each batch is shown the names given before it: so
names converge instead of multiplying, and equal items give equal requests, which the journal answers after a restart.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from dpe_ray.diagnose.usable import refusal
from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.grading.answering import collect
from dpe_ray.grading.prompt import lettered_options
from dpe_ray.grading.repair import ask
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatDoor, ChatModel, ChatRequest, MapSpec, Message, Row, RowMapper
from dpe_ray.taxonomy import UNSPECIFIED, Taxonomy, canonical
from dpe_ray.types import Sample

BATCH = 8
"""Items of a category that are asked about at once."""
MOST_WORDS = 6
MAX_TOKENS = 120

log = logging.getLogger(__name__)


class SkillReply(BaseModel):
    """The analyst's reply."""

    skill: str


@dataclass(frozen=True)
class Skills:
    """What the analyst said, by sample id."""

    names: dict[str, str] = field(default_factory=dict)
    """`unspecified` where there is no usable name."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """Why the analyst did not answer; empty where it did, whatever it said."""


@dataclass(frozen=True)
class SkillJob:
    """What a worker needs for rows `{"id": category, "samples", "known"}`."""

    analyst: ChatDoor
    prompt_file: str = ""
    """The user's own prompt."""


async def name_skills(
    samples: Sequence[Sample],
    analyst: ChatDoor,
    mapper: RowMapper,
    taxonomy: Taxonomy,
    *,
    workers: tuple[int, int],
    concurrency: int,
    prompt_file: str = "",
) -> Skills:
    """Name one skill per sample. Costs one call each, two when a reply does not parse."""
    by_category: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: s.id):
        by_category.setdefault(sample.category, []).append(sample)
    rows = [
        {"id": category, "samples": tuple(members), "known": taxonomy.known(category)}
        for category, members in by_category.items()
    ]
    spec = MapSpec(skill_rows, SkillJob(analyst, prompt_file), workers, concurrency, "skills")
    found = Skills()
    for part in (await collect(mapper, spec, rows, "skills")).values():
        found.names.update(part.names)
        found.unanswered.update(part.unanswered)
    return found


def skill_rows(job: SkillJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the analyst's door and build the row function: one category to `{"id", "skills": Skills}`."""
    analyst, prompt = job.analyst.open(), PromptFile.load("dpe_ray.diagnose", "skill_analyst", job.prompt_file)

    async def name_category(row: Row) -> Row:
        samples, known = row["samples"], list(row["known"])
        skills = Skills()
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            said = await asyncio.gather(*[_ask(sample, known, analyst, prompt, skills.unanswered) for sample in batch])
            pairs = list(zip(said, batch, strict=True))
            clean = [usable_skill(name, sample, known) for name, sample in pairs]
            known += [name for name in dict.fromkeys(clean) if name not in (*known, UNSPECIFIED)]
            # a name that also serves an item with another answer gives nothing away: time_of_day, where it is day
            skills.names.update({sample.id: usable_skill(name, sample, known) for name, sample in pairs})
        return {"id": row["id"], "skills": skills}

    return name_category


async def _ask(
    sample: Sample, known: Sequence[str], analyst: ChatModel, prompt: PromptFile, unanswered: dict[str, str]
) -> str:
    shown = prompt.render(
        category=sample.category, question=sample.question, options=lettered_options(sample), known=known
    )
    message = Message("user", shown, sample.images)
    request = ChatRequest((message,), "skill_analyst", sample.id, prompt.label, max_tokens=MAX_TOKENS)
    try:
        return (await ask(analyst, request, SkillReply)).skill
    except (ModelUnavailable, BadRequest, BadReply) as error:
        log.warning("skill of %s: %s", sample.id, error)
        if not isinstance(error, BadReply):
            unanswered[sample.id] = str(error)
        return UNSPECIFIED


def usable_skill(said: str, sample: Sample, known: Sequence[str] = ()) -> str:
    """Bring a skill's name into snake_case, a known one as it is known; `unspecified` for one that cannot be used."""
    for name in known:
        if canonical(said) == canonical(name):
            return name
    return UNSPECIFIED if refusal(said, sample, longest=MOST_WORDS) else canonical(said)
