"""Which skills every support sample exercises: what missing skills are retrieved by (arXiv 2412.15652).

The labels depend on the sample, the teacher, the prompt and the taxonomy's own skills, never on a diagnosis: so the
journal, shared between runs, answers a second annotation whole.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, Field, model_validator

from dpe_ray.diagnose.usable import refusal
from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.grading.answering import collect
from dpe_ray.grading.prompt import lettered_options
from dpe_ray.grading.repair import ask
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatDoor, ChatRequest, MapSpec, Message, Row, RowMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import Sample

MOST_SKILLS = 5
MAX_TOKENS = 300

log = logging.getLogger(__name__)


class SkillList(BaseModel):
    """The lister's reply."""

    skills: list[str] = Field(min_length=1)


@dataclass(frozen=True)
class SupportJob:
    """What a worker needs for rows `{"id", "sample", "known"}`."""

    lister: ChatDoor
    prompt_file: str = ""
    """The user's own prompt."""


async def list_support_skills(
    samples: Sequence[Sample],
    lister: ChatDoor,
    mapper: RowMapper,
    taxonomy: Taxonomy,
    *,
    workers: tuple[int, int],
    concurrency: int,
    prompt_file: str = "",
) -> tuple[Sample, ...]:
    """Label every sample with one to five skills in plain words, in the order of `samples`.

    One call per sample, two when the first reply cannot be used, none for what the journal knows. A sample that got no
    usable label keeps `skills` empty: it can still be drawn, never retrieved.
    """
    rows = [
        {"id": id_, "sample": sample, "known": taxonomy.known(sample.category)}
        for id_, sample in {s.id: s for s in samples}.items()
    ]
    spec = MapSpec(support_rows, SupportJob(lister, prompt_file), workers, concurrency, "support skills")
    listed: dict[str, tuple[str, ...]] = await collect(mapper, spec, rows, "skills")
    return tuple(replace(sample, skills=listed[sample.id]) for sample in samples)


def support_rows(job: SupportJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the lister's door and build the row function: `{"id", "sample", "known"}` to `{"id", "skills"}`."""
    lister, prompt = job.lister.open(), PromptFile.load("dpe_ray.diagnose", "skill_lister", job.prompt_file)

    async def list_row(row: Row) -> Row:
        sample, known = row["sample"], row["known"]
        try:
            said = await ask(lister, _request(sample, known, prompt), usable_list(sample, known))
        except (ModelUnavailable, BadRequest, BadReply) as error:
            log.warning("skills of support sample %s: %s", sample.id, error)
            return {"id": row["id"], "skills": ()}
        return {"id": row["id"], "skills": tuple(said.skills)}

    return list_row


def _request(sample: Sample, known: Sequence[str], prompt: PromptFile) -> ChatRequest:
    shown = prompt.render(
        category=sample.category,
        question=sample.question,
        options=lettered_options(sample),
        answer=sample.answer.value,
        known=known,
    )
    message = Message("user", shown, sample.images)
    return ChatRequest((message,), "skill_analyst", sample.id, prompt.label, max_tokens=MAX_TOKENS)


def usable_list(sample: Sample, known: Sequence[str]) -> type[SkillList]:
    """The reply's form for one sample: it keeps the first five usable skills and refuses a list without any."""

    class UsableList(SkillList):
        @model_validator(mode="after")
        def _usable(self) -> "UsableList":
            why = {" ".join(skill.split()): refusal(skill, sample, known) for skill in self.skills}
            self.skills = [skill for skill, reason in why.items() if not reason][:MOST_SKILLS]
            if not self.skills:
                raise ValueError(next(iter(why.values())))
            return self

    return UsableList
