"""The tools of a round's agents, bound to the run's pool, image store, journal and endpoints."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dpe_ray.config import RunConfig, SearchConfig
from dpe_ray.models.downloads import DownloadSettings
from dpe_ray.models.journal import read_journal
from dpe_ray.models.openai_edits import EditSpec
from dpe_ray.models.openverse import OpenverseSettings
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import CallBudget, Place
from dpe_ray.rounds.ledger import prices
from dpe_ray.rounds.sets import Sets
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.annotate.cell_planner import place_of
from dpe_ray.supply.tools.edit_limits import load_limits
from dpe_ray.supply.tools.image_editor import EditorDoor
from dpe_ray.supply.tools.image_search import PoolSearchDoor, WebSearchDoor
from dpe_ray.supply.tools.recorded import SearchDoor, Tools


def begins_with_cell(config: RunConfig) -> bool:
    """Whether slots of `annotate` take a cell first."""
    return "annotate" in config.supply.order and config.supply.annotate.start == "cell"


def check_search(config: RunConfig, sets: Sets) -> None:
    """Look before anything is paid whether the pool can be searched. Raises PoolError when it cannot."""
    if begins_with_cell(config) and config.tools.search.source == "pool":
        sets.drawn_from().check_captions()


def make_tools(config: RunConfig, run: RunFolder, sets: Sets, calls: CallBudget, stage: str) -> Tools | None:
    """What the slots of a stage use; None where they begin with an image. Raises ConfigError for unusable limits."""
    if not begins_with_cell(config):
        return None
    keeper = ImageStore(run.images)
    return Tools(
        search=_search(config.tools.search, keeper, sets),
        candidates=config.tools.search.candidates,
        editor=_editor(config, keeper, calls),
        journal=str(run.journal(stage)),
    )


@dataclass
class Places:
    """What slots that begin with a cell were assigned so far in a run."""

    of_slots: dict[int, Place] = field(default_factory=dict)
    """Of one stage, before it was interrupted."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Cell -> first number that no place has, over all rounds up to that stage."""


def read_places(run: RunFolder, index: int) -> Places:
    """Read them from the planner's calls in the journals of rounds 1 to `index`: whatever was paid keeps its place."""
    places = Places()
    for round_ in range(1, index + 1):
        for slot, place in _planned(run, f"{round_:02d}-supply"):
            places.numbers[place.cell] = max(place.number + 1, places.numbers.get(place.cell, 0))
            if round_ == index:
                places.of_slots[slot] = place
    return places


def _planned(run: RunFolder, stage: str) -> Iterator[tuple[int, Place]]:
    for line in read_journal(run.journal(stage)):
        if line["role"] == "planner" and line["prompt_version"].startswith("cell_planner@"):
            yield place_of(line["item"])


def _search(settings: SearchConfig, keeper: ImageStore, sets: Sets) -> SearchDoor:
    if settings.source == "pool":
        pool = sets.drawn_from()
        return PoolSearchDoor(pool.captions, pool.take)
    openverse = OpenverseSettings(settings.url, settings.token_env, settings.licence_type, settings.user_agent)
    return WebSearchDoor(keeper, openverse, _downloads(settings))


def _editor(config: RunConfig, keeper: ImageStore, calls: CallBudget) -> EditorDoor | None:
    edit = config.tools.edit
    if edit.how == "none":
        return None
    return EditorDoor(keeper, load_limits(edit.limits), _painter(config) if edit.model else None, calls)


def _painter(config: RunConfig) -> EditSpec:
    edit, model = config.tools.edit, config.models[config.tools.edit.model]
    return EditSpec(
        name=edit.model,
        base_url=model.base_url,
        model=model.model or edit.model,
        api_key_env=model.api_key_env,
        concurrency=model.concurrency,
        timeout_s=model.timeout_s,
        retries=model.retries,
        price=prices(config)[edit.model],
        extra=edit.fields,
        seeded=edit.seeded,
        downloads=_downloads(config.tools.search),
    )


def _downloads(settings: SearchConfig) -> DownloadSettings:
    return DownloadSettings(user_agent=settings.user_agent, networks=settings.networks)
