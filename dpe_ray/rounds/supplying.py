"""The supply of a round: the suppliers that `supply.order` names, bound to their doors, sets and seeds."""

import math
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import islice

from dpe_ray.config import RetrieveConfig, RunConfig, TrainConfig
from dpe_ray.diagnose.support import list_support_skills
from dpe_ray.errors import ModelUnavailable
from dpe_ray.plan.teachable import teachable
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import Embedder, QuotaBook
from dpe_ray.rounds.ledger import STUDENT, SUPPORT
from dpe_ray.rounds.machine import Machine, grant
from dpe_ray.rounds.pool_progress import PoolProgress
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.screening import screened
from dpe_ray.rounds.sets import Sets, round_probe
from dpe_ray.rounds.store import RunFolder
from dpe_ray.rounds.tools import Places, check_search, make_tools, read_places
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.slot import ACQUIRING, SlotConfig
from dpe_ray.supply.annotate.slot import ROLES as SLOT_ROLES
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.construct.order import OrderConfig
from dpe_ray.supply.construct.supplier import ConstructSupplier
from dpe_ray.supply.gates import check_format
from dpe_ray.supply.retrieve.chance import ChanceRanker
from dpe_ray.supply.retrieve.dense import DenseRanker, embed_texts
from dpe_ray.supply.retrieve.filling import Filling, fixed_k, round_robin, score_pool
from dpe_ray.supply.retrieve.hybrid import HybridRanker
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.shards import IndexParts, PartsHere, split
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.supply.retrieve.supplier import RetrieveSupplier, Support
from dpe_ray.supply.supplier import Supplied, Supplier
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import CellPlan, DataPlan, ImageRef, Need, PolicyRef, Rejection, Sample


class Suppliers:
    """Makes a round's suppliers.

    The support set is labelled and indexed once for a run, when a cell is first short; with `supply.retrieve.screen`
    once for every policy, and only what lies in its band. A sample is labelled once for a run all the same.
    """

    def __init__(self, config: RunConfig, run: RunFolder, sets: Sets, machine: Machine) -> None:
        self._config, self._run, self._sets, self._machine = config, run, sets, machine
        self._workers = (config.supply.workers.min, config.supply.workers.max)
        self._progress = PoolProgress(sets.pool, run, child_seed(config.seed, "pool"))
        check_search(config, sets)
        self._support: dict[tuple[int, int], Support] = {}
        """The latest alone, by policy version and round: 0 for all of them where nothing depends on it."""
        self._skills: dict[str, tuple[str, ...]] = {}
        """What support samples were labelled with, by their ids."""

    def make(self, name: str, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """One supplier by its name in `supply.order`."""
        if name == "retrieve":
            return self._retrieve(policy, index)
        return self._construct(policy, plan, index) if name == "construct" else self._annotate(policy, plan, index)

    def close(self, supplied: Supplied, index: int) -> None:
        """Note which images a round used up: the next one goes on behind them."""
        self._progress.end(index, supplied.images)

    def _retrieve(self, policy: PolicyRef, index: int) -> Supplier:
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
        await grant(self._machine.calls, self._run, config.budget.teacher_calls, SUPPORT)
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

    def _construct(self, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """Draw pictures by program; what no program can draw is left to the next supplier."""
        config, settings, stage = self._config, self._config.supply, f"{index:02d}-supply"
        roles = ("planner", "student") if settings.construct.planner else ("student",)

        async def book(wanted: Mapping[str, int]) -> QuotaBook:
            await grant(self._machine.calls, self._run, config.budget.teacher_calls, stage)
            # the planner's door keeps to the budget; slots go on without it, and cost nothing then
            return self._machine.book(dict(wanted), settings.slots_per_sample, sys.maxsize)

        return ConstructSupplier(
            OrderConfig(
                doors={role: self._machine.door(role, stage, policy.version) for role in roles},
                store=ImageStore(self._run.images),
                programs=settings.construct.programs,
                contamination=self._sets.held_out,
                pass_rate=settings.pass_rate,
                pass_rate_samples=settings.pass_rate_samples,
                answer_tokens=config.answer.max_tokens,
                round=index,
                policy_version=policy.version,
                seed=child_seed(config.seed, "construct", index),
                prompts=config.prompts,
            ),
            book,
            self._machine.mapper,
            self._to_edit(plan, index),
            settings.construct.per_call,
            self._workers,
            max(1, settings.concurrency // settings.construct.per_call),
            settings.workers.labels,
        )

    def _to_edit(self, plan: DataPlan, index: int) -> Iterator[ImageRef | Rejection]:
        """Pool images for programs that edit one, in an order of this round's own: annotate's cursor stays put."""
        slots = math.ceil(plan.total * self._config.supply.slots_per_sample)
        return islice(self._sets.pool.draw(seed=child_seed(self._config.seed, "construct", "pool", index)), slots)

    def _annotate(self, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """Annotate pool images; every round goes on in the pool where the last one stopped."""
        config, settings, stage = self._config, self._config.supply, f"{index:02d}-supply"
        slots = round(plan.total * settings.slots_per_sample)
        tools = make_tools(config, self._run, self._sets, self._machine.calls, stage)
        roles = (*SLOT_ROLES, *ACQUIRING) if tools else SLOT_ROLES
        places = read_places(self._run, index) if tools else Places()

        async def book(wanted: Mapping[str, int]) -> QuotaBook:
            left = await grant(self._machine.calls, self._run, config.budget.teacher_calls, stage)
            return self._machine.book(dict(wanted), settings.slots_per_sample, left)

        return AnnotateSupplier(
            None if tools else self._progress.begin(index),
            slots,
            SlotConfig(
                doors={role: self._machine.door(role, stage, policy.version) for role in roles},
                contamination=self._sets.held_out,
                round=index,
                policy_version=policy.version,
                seed=child_seed(config.seed, "supply", index),
                attempts=settings.attempts,
                solves=settings.solves,
                pass_rate=settings.pass_rate,
                pass_rate_samples=settings.pass_rate_samples,
                by_example=by_example(plan, config.train),
                answer_tokens=config.answer.max_tokens,
                prompts=config.prompts,
                tools=tools,
            ),
            book,
            self._machine.mapper,
            self._workers,
            settings.concurrency,
            settings.workers.labels,
            places.of_slots,
            places.numbers,
        )


def by_example(plan: DataPlan, train: TrainConfig) -> frozenset[str]:
    """Cells that lack knowledge, where training shows completions: no sampled answer is right there, nor need be."""
    if Need.KNOWLEDGE not in teachable(train):
        return frozenset()
    return frozenset(cell.cell for cell in plan.cells if cell.need is Need.KNOWLEDGE)


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
