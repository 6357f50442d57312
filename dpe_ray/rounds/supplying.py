"""The supply of a round: the suppliers that `supply.order` names, bound to their doors, sets and seeds."""

import math
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from dpe_ray.config import RetrieveConfig, RunConfig
from dpe_ray.diagnose.support import list_support_skills
from dpe_ray.errors import ModelUnavailable
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import Embedder, QuotaBook
from dpe_ray.rounds.ledger import STUDENT, SUPPORT
from dpe_ray.rounds.machine import Machine, grant
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.sets import Sets
from dpe_ray.rounds.store import RunFolder
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.slot import ROLES as SLOT_ROLES
from dpe_ray.supply.annotate.slot import SlotConfig
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.construct.order import OrderConfig
from dpe_ray.supply.construct.supplier import ConstructSupplier
from dpe_ray.supply.gates import check_format
from dpe_ray.supply.retrieve.dense import DenseRanker, index_vectors
from dpe_ray.supply.retrieve.filling import Filling, fixed_k, round_robin, score_pool
from dpe_ray.supply.retrieve.hybrid import HybridRanker
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.supply.retrieve.supplier import RetrieveSupplier, Support
from dpe_ray.supply.supplier import Supplier
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import DataPlan, ImageRef, PolicyRef, Rejection, Sample


class Suppliers:
    """Makes a round's suppliers. The support set is labelled and indexed once for a run, when a cell is first short."""

    def __init__(self, config: RunConfig, run: RunFolder, sets: Sets, machine: Machine) -> None:
        self._config, self._run, self._sets, self._machine = config, run, sets, machine
        self._workers = (config.supply.workers.min, config.supply.workers.max)
        self._support: Support | None = None

    def make(self, name: str, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """One supplier by its name in `supply.order`."""
        if name == "retrieve":
            return self._retrieve(policy, index)
        return self._construct(policy, plan, index) if name == "construct" else self._annotate(policy, plan, index)

    def _retrieve(self, policy: PolicyRef, index: int) -> Supplier:
        """Find support samples; what was taken in earlier rounds is refused by the stage's `seen`."""
        return RetrieveSupplier(
            partial(self._indexed, policy),
            round=index,
            gates={"format": check_format},
            forbidden=self._held_out,
            filling=filling(self._config.supply.retrieve),
        )

    async def _indexed(self, policy: PolicyRef) -> Support:
        """The support set with its index, made when a cell is short for the first time."""
        settings = self._config.supply.retrieve
        if self._support is None:
            async with self._base_served(policy):
                samples = {sample.id: sample for sample in await self._labelled()}
            documents = {id_: "; ".join(s.skills) for id_, s in samples.items() if s.skills}
            embedder = self._machine.embedder(settings.embedder).open() if settings.index != "bm25" else None
            self._support = await make_ranker(documents, embedder, settings), samples
        return self._support

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

    async def _labelled(self) -> tuple[Sample, ...]:
        """Give support samples their skills; those that brought their own keep them.

        The journal answers a resumed run. Raises ModelUnavailable when hardly one could be labelled, BudgetExceeded.
        """
        config, samples = self._config, self._sets.support
        bare = [sample for sample in samples if not sample.skills]
        await grant(self._machine.calls, self._run, config.budget.teacher_calls, SUPPORT)
        listed = await list_support_skills(
            bare,
            self._machine.door("skill_analyst", SUPPORT, 0),
            self._machine.mapper,
            load_taxonomy(config.taxonomy),
            workers=self._workers,
            concurrency=config.supply.concurrency,
            prompt_file=config.prompts.get("skill_lister", ""),
        )
        require_skills(listed)
        by_id = {sample.id: sample for sample in listed}
        return tuple(by_id.get(sample.id, sample) for sample in samples)

    @property
    def _held_out(self) -> frozenset[str]:
        """Ids and images of what is measured on: the sets are disjoint, and stay so whatever a reader makes of them."""
        measured = (*self._sets.probe, *self._sets.gate, *self._sets.final)
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
        return self._sets.pool.draw(slots, seed=child_seed(self._config.seed, "construct", "pool", index))

    def _annotate(self, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """Annotate pool images; every round goes on in the pool where the last one stopped."""
        config, settings, stage = self._config, self._config.supply, f"{index:02d}-supply"
        slots = round(plan.total * settings.slots_per_sample)

        async def book(wanted: Mapping[str, int]) -> QuotaBook:
            left = await grant(self._machine.calls, self._run, config.budget.teacher_calls, stage)
            return self._machine.book(dict(wanted), settings.slots_per_sample, left)

        return AnnotateSupplier(
            self._sets.pool.draw(slots, seed=child_seed(config.seed, "pool"), cursor=(index - 1) * slots),
            slots,
            SlotConfig(
                doors={role: self._machine.door(role, stage, policy.version) for role in SLOT_ROLES},
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
            ),
            book,
            self._machine.mapper,
            self._workers,
            settings.concurrency,
            settings.workers.labels,
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
