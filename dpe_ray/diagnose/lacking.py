"""What wrong rationales lacked: the steps that went wrong, then the skills that were missing there."""

from collections.abc import Awaitable, Callable, Sequence

from dpe_ray.diagnose.missing import ONE_SKILL, OUTAGE, MissingSettings, find_missing_skills
from dpe_ray.diagnose.outages import Outages
from dpe_ray.ports import ChatDoor, EmbedderDoor, RowMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import ErrorRecord, Graded

Locate = Callable[[Sequence[Graded]], Awaitable[Sequence[ErrorRecord]]]
"""Finds the mistake in the rationales of wrong answers: one record per item that is worth one, `skills` still empty."""


async def find_lacking(
    failed: Sequence[Graded],
    locate: Locate,
    analyst: ChatDoor,
    mapper: RowMapper,
    taxonomy: Taxonomy,
    outages: Outages,
    *,
    workers: tuple[int, int],
    concurrency: int,
    settings: MissingSettings = ONE_SKILL,
    embedder: EmbedderDoor | None = None,
    prompt_file: str = "",
) -> tuple[ErrorRecord, ...]:
    """Locate the mistakes in wrong answers to different items and name what was missing, in the order of `failed`.

    Costs what `locate` costs and one analyst call per error. Outages are counted in `outages`, which raises
    ModelUnavailable when reader or analyst left more than half unanswered.
    """
    located = await locate(failed)
    asked = sum(e.location.status != "unparsable" for e in located)
    unanswered = {e.sample_id: e.location.unanswered for e in located if e.location.unanswered}
    outages.add("mistakes", "reader", asked, unanswered)
    found = await find_missing_skills(
        located, {g.sample.id: g.sample for g in failed}, analyst, mapper, taxonomy,
        workers=workers, concurrency=concurrency,
        settings=settings, embedder=embedder, prompt_file=prompt_file,
    )  # fmt: skip
    unanswered = {e.sample_id: e.dropped for e in found if e.dropped.startswith(OUTAGE)}
    outages.add("missing skills", "skill_analyst", asked, unanswered)
    return found
