"""The diagnosis of a round: which of its optional steps `diagnose` of a config asks for, and by whose doors."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dpe_ray.config import RunConfig
from dpe_ray.diagnose.lacking import Locate
from dpe_ray.diagnose.missing import MissingSettings
from dpe_ray.diagnose.mistakes.locate import error_record, locate_mistakes
from dpe_ray.diagnose.mistakes.methods import LocateSettings
from dpe_ray.diagnose.routes import RouteSettings
from dpe_ray.diagnose.stage import More, diagnose
from dpe_ray.diagnose.votes import VoteSettings
from dpe_ray.ports import ChatDoor, EmbedderDoor, RowMapper
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import Diagnosis, ErrorRecord, Graded, Sample

Doors = Callable[[str], ChatDoor]
"""Role -> door."""


async def diagnose_policy(
    policy_version: int,
    probe: Sequence[Sample],
    door: Doors,
    mapper: RowMapper,
    config: RunConfig,
    *,
    zoomed: Path,
    seed: int,
    more: More | None = None,
    embedder: EmbedderDoor | None = None,
) -> tuple[Diagnosis, tuple[Graded, ...]]:
    """As `diagnose.stage.diagnose`, by the keys of `diagnose`.

    `zoomed` is where enlarged pictures are kept, `more` chooses a second batch of items, `embedder` opens
    what `diagnose.embedder` names.
    """
    chosen = config.diagnose
    return await diagnose(
        policy_version,
        probe,
        door("student"),
        door("judge"),
        door("skill_analyst"),
        mapper,
        taxonomy=load_taxonomy(config.taxonomy),
        max_tokens=config.answer.max_tokens,
        failures_per_cell=chosen.failures_per_cell,
        workers=(config.supply.workers.min, config.supply.workers.max),
        concurrency=config.answer.concurrency,
        prompts=config.prompts,
        explain=chosen.method != "answer_switch",
        embedder=embedder,
        more=more,
        votes=VoteSettings(chosen.answers, seed=seed) if chosen.votes else None,
        locate=None if chosen.method == "categories" else locator(door("reader"), mapper, config, seed),
        missing=missing_settings(config),
        routes=RouteSettings(str(zoomed), chosen.answers, seed=seed) if chosen.needs else None,
    )


def missing_settings(config: RunConfig) -> MissingSettings:
    """How missing skills are named, by the keys of `diagnose`."""
    chosen = config.diagnose
    return MissingSettings(chosen.skills_per_error, chosen.locate != "none", chosen.analysis)


def locator(reader: ChatDoor, mapper: RowMapper, config: RunConfig, seed: int) -> Locate:
    """Bind the way in which mistakes are located to the reader's door."""
    chosen = config.diagnose
    settings = LocateSettings(chosen.locate, chosen.delta, chosen.persistence, chosen.prior, seed=seed)

    async def locate(failed: Sequence[Graded]) -> list[ErrorRecord]:
        found = await locate_mistakes(
            failed,
            reader,
            mapper,
            settings,
            workers=(config.supply.workers.min, config.supply.workers.max),
            concurrency=config.answer.concurrency,
            prompt_file=config.prompts.get("reader", ""),
        )
        return [error_record(graded, found[graded.sample.id]) for graded in failed]

    return locate
