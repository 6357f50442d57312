"""Retrieval in a round: which set is searched, who labels it, and what it is indexed by."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from dpe_ray.config import RetrieveConfig, RunConfig
from dpe_ray.diagnose.support import list_support_skills
from dpe_ray.errors import ModelUnavailable
from dpe_ray.ports import Embedder
from dpe_ray.rounds.ledger import STUDENT, SUPPORT
from dpe_ray.rounds.machine import Machine, grant
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.screening import screened
from dpe_ray.rounds.sets import Sets, round_probe
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.gates import check_format
from dpe_ray.supply.retrieve.chance import ChanceRanker
from dpe_ray.supply.retrieve.dense import DenseRanker, embed_texts
from dpe_ray.supply.retrieve.filling import Filling, fixed_k, round_robin, score_pool
from dpe_ray.supply.retrieve.hybrid import HybridRanker
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.shards import IndexParts, PartsHere, split
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.supply.retrieve.supplier import RetrieveSupplier, Support
from dpe_ray.supply.supplier import Supplier
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import CellPlan, PolicyRef, Sample


class Retrieval:
    """The labelled set of a run, ready to be searched.

    It is labelled and indexed once for a run, when a cell is first short; with `supply.retrieve.screen` once for every
    policy, and only what lies in its band. A sample is labelled once for a run all the same.
    """

    def __init__(self, config: RunConfig, run: RunFolder, sets: Sets, machine: Machine) -> None:
        self._config, self._run, self._sets, self._machine = config, run, sets, machine
        self._workers = (config.supply.workers.min, config.supply.workers.max)
        self._support: dict[tuple[int, int], Support] = {}
        """The latest alone, by policy version and round: 0 for all of them where nothing depends on it."""
        self._skills: dict[str, tuple[str, ...]] = {}
        """What samples were labelled with, by their ids."""

    def supplier(self, policy: PolicyRef, index: int) -> Supplier:
        """Find labelled samples; what was taken in earlier rounds is refused by the stage's `seen`."""
        settings = self._config.supply.retrieve
        return RetrieveSupplier(
            partial(self._indexed, policy, index),
            round=index,
            gates={"format": check_format},
            forbidden=self._held_out,
            filling=filling(settings),
            same_category=settings.same_category,
            queries=self._questions if settings.by == "questions" else None,
        )

    async def _indexed(self, policy: PolicyRef, index: int) -> Support:
        """What is searched, with its index, made when a cell is short for the first time."""
        settings = self._config.supply.retrieve
        key = policy.version if settings.screen else 0, index if settings.source == "probe" else 0
        if key not in self._support:
            found = self._searched(index)
            if settings.screen:  # the journal answers what the policy was asked in another round
                student = self._machine.door(STUDENT, SUPPORT, policy.version)
                found = await screened(found, policy.version, student, self._machine.mapper, self._config)
            if settings.by == "skills":
                async with self._base_served(policy):
                    found = await self._labelled(found)
            self._support = {key: (await self._ranker(found), {sample.id: sample for sample in found})}
        return self._support[key]

    def _searched(self, index: int) -> tuple[Sample, ...]:
        config, sets = self._config, self._sets
        return round_probe(config, sets, index) if config.supply.retrieve.source == "probe" else sets.support

    async def _ranker(self, samples: Sequence[Sample]) -> Ranker[str]:
        settings = self._config.supply.retrieve
        if settings.by == "chance":
            return ChanceRanker([sample.id for sample in samples], self._config.seed)
        if settings.by == "skills":
            documents = {sample.id: "; ".join(sample.skills) for sample in samples if sample.skills}
        else:
            documents = {sample.id: sample.question for sample in samples}
        embedder = self._machine.embedder(settings.embedder).open() if settings.index != "bm25" else None
        return await make_ranker(documents, embedder, settings, self._machine.parts)

    def _questions(self, cell: CellPlan) -> list[str]:
        """What the probe set asks in a cell's category, once each."""
        return list(dict.fromkeys(item.question for item in self._sets.probe if item.category == cell.category))

    @asynccontextmanager
    async def _base_served(self, policy: PolicyRef) -> AsyncIterator[None]:
        """A student that labels for itself does so as it was before the first round: one run, one set of labels."""
        if policy.version == 0 or self._config.model_of("skill_analyst") != STUDENT:
            yield
            return
        await self._machine.publish(self._run.round(1).load_json("record", RoundRecord).start)
        try:
            yield
        finally:
            await self._machine.publish(policy)

    async def _labelled(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """Give support samples their skills; those that brought their own keep them.

        The journal answers a resumed run. Raises ModelUnavailable when hardly one could be labelled, BudgetExceeded.
        """
        config = self._config
        bare = [sample for sample in samples if not sample.skills]
        await grant(self._machine.calls, self._run, config, SUPPORT)
        listed = await list_support_skills(
            [sample for sample in bare if not self._skills.get(sample.id)],
            self._machine.door("skill_analyst", SUPPORT, 0),
            self._machine.mapper,
            load_taxonomy(config.taxonomy),
            workers=self._workers,
            concurrency=config.answer.concurrency,
            prompt_file=config.prompts.get("skill_lister", ""),
        )
        self._skills |= {sample.id: sample.skills for sample in listed}
        labelled = {sample.id: replace(sample, skills=self._skills[sample.id]) for sample in bare}
        require_skills(list(labelled.values()))
        return tuple(labelled.get(sample.id, sample) for sample in samples)

    @property
    def _held_out(self) -> frozenset[str]:
        """Ids and images of what is measured on: the sets are disjoint, and stay so whatever a reader makes of them."""
        measured = (*self._sets.gate, *self._sets.final)
        if self._config.supply.retrieve.source == "probe":
            shas = {image.sha256 for sample in measured for image in sample.images}
            return frozenset(shas | {sample.id for sample in measured})
        measured += self._sets.probe
        return self._sets.held_out.shas | {sample.id for sample in measured}


async def make_ranker(
    documents: Mapping[str, str], embedder: Embedder | None, settings: RetrieveConfig, parts: IndexParts
) -> Ranker[str]:
    """Index texts by id; `embedder` for dense and hybrid, whose texts are embedded here, `parts` for several shards."""
    shards, rankers = settings.shards, list[Ranker[str]]()
    if shards == 1:
        parts = PartsHere()
    if settings.index != "dense":
        rankers.append(index_words(documents) if shards == 1 else await parts.words(split(documents, shards)))
    if embedder is not None:
        ids, rows = await embed_texts(documents, embedder)
        index = await parts.vectors((ids[i::shards], rows[i::shards]) for i in range(shards))
        rankers.append(DenseRanker(index, embedder))
    return rankers[0] if len(rankers) == 1 else HybridRanker(rankers)


def filling(settings: RetrieveConfig) -> Filling:
    """Whose turn it is to take a sample."""
    named: dict[str, Filling] = {
        "round_robin": round_robin,
        "fixed_k": partial(fixed_k, k=settings.k),
        "score_pool": score_pool,
    }
    return named[settings.filling]


def require_skills(listed: Sequence[Sample]) -> None:
    """An outage must not pass for a support set without skills: below a half the run ends, and a resumed one asks."""
    known = sum(bool(sample.skills) for sample in listed)
    if 2 * known < len(listed):
        raise ModelUnavailable(f"support: {known} of {len(listed)} samples got skills; check roles.skill_analyst")
