"""The supply of a round: the suppliers that `supply.order` names, bound to their doors, sets and seeds."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from dpe_ray.config import RetrieveConfig, RunConfig
from dpe_ray.diagnose.support import list_support_skills
from dpe_ray.errors import ModelUnavailable
from dpe_ray.ports import Embedder, QuotaBook
from dpe_ray.rounds.ledger import STUDENT, SUPPORT
from dpe_ray.rounds.machine import Machine, grant
from dpe_ray.rounds.pool_progress import PoolProgress
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.screening import screened
from dpe_ray.rounds.sets import Sets
from dpe_ray.rounds.store import RunFolder
from dpe_ray.rounds.tools import Places, check_search, make_tools, read_places
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.slot import ACQUIRING, SlotConfig
from dpe_ray.supply.annotate.slot import ROLES as SLOT_ROLES
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.gates import check_format
from dpe_ray.supply.retrieve.dense import DenseRanker, index_vectors
from dpe_ray.supply.retrieve.filling import Filling, fixed_k, round_robin, score_pool
from dpe_ray.supply.retrieve.hybrid import HybridRanker
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.supply.retrieve.supplier import RetrieveSupplier, Support
from dpe_ray.supply.supplier import Supplied, Supplier
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import DataPlan, PolicyRef, Sample


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
        self._support: dict[int, Support] = {}
        """The latest alone, by policy version: 0 for all policies without screening."""
        self._skills: dict[str, tuple[str, ...]] = {}
        """What support samples were labelled with, by their ids."""

    def make(self, name: str, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """One supplier by its name in `supply.order`."""
        return self._retrieve(policy, index) if name == "retrieve" else self._annotate(policy, plan, index)

    def close(self, supplied: Supplied, index: int) -> None:
        """Note which images a round used up: the next one goes on behind them."""
        self._progress.end(index, supplied.images)

    def _retrieve(self, policy: PolicyRef, index: int) -> Supplier:
        """Find support samples; what was taken in earlier rounds is refused by the stage's `seen`."""
        return RetrieveSupplier(
            partial(self._indexed, policy),
            round=index,
            gates={"format": check_format},
            forbidden=self._held_out,
            filling=filling(self._config.supply.retrieve),
            same_category=self._config.supply.retrieve.same_category,
        )

    async def _indexed(self, policy: PolicyRef) -> Support:
        """The support set with its index, made when a cell is short for the first time."""
        settings = self._config.supply.retrieve
        version = policy.version if settings.screen else 0
        if version not in self._support:
            found = await self._screened(policy) if settings.screen else self._sets.support
            async with self._base_served(policy):
                samples = {sample.id: sample for sample in await self._labelled(found)}
            documents = {id_: "; ".join(s.skills) for id_, s in samples.items() if s.skills}
            embedder = self._machine.embedder(settings.embedder).open() if settings.index != "bm25" else None
            self._support = {version: (await make_ranker(documents, embedder, settings), samples)}
        return self._support[version]

    async def _screened(self, policy: PolicyRef) -> tuple[Sample, ...]:
        """The support samples in the policy's band; the journal answers what it was asked in another round."""
        student = self._machine.door(STUDENT, SUPPORT, policy.version)
        return await screened(self._sets.support, policy.version, student, self._machine.mapper, self._config)

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
            concurrency=config.supply.concurrency,
            prompt_file=config.prompts.get("skill_lister", ""),
        )
        self._skills |= {sample.id: sample.skills for sample in listed}
        labelled = {sample.id: replace(sample, skills=self._skills[sample.id]) for sample in bare}
        require_skills(list(labelled.values()))
        return tuple(labelled.get(sample.id, sample) for sample in samples)

    @property
    def _held_out(self) -> frozenset[str]:
        """Ids and images of what is measured on: the sets are disjoint, and stay so whatever a reader makes of them."""
        measured = (*self._sets.probe, *self._sets.gate, *self._sets.final)
        return self._sets.held_out.shas | {sample.id for sample in measured}

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


async def make_ranker(documents: Mapping[str, str], embedder: Embedder | None, settings: RetrieveConfig) -> Ranker[str]:
    """Index texts by id; `embedder` for dense and hybrid, whose texts are embedded here."""
    words = index_words(documents)
    if embedder is None:
        return words
    dense = DenseRanker(await index_vectors(documents, embedder), embedder)
    return dense if settings.index == "dense" else HybridRanker([words, dense])


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
