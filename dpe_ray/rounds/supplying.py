"""The supply of a round: the suppliers that `supply.order` names, bound to their doors, sets and seeds."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from dpe_ray.config import RunConfig, TrainConfig
from dpe_ray.plan.teachable import teachable
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import QuotaBook
from dpe_ray.rounds.live import QuotaLines
from dpe_ray.rounds.machine import Machine, grant
from dpe_ray.rounds.pool_progress import PoolProgress
from dpe_ray.rounds.retrieving import Retrieval
from dpe_ray.rounds.sets import Sets
from dpe_ray.rounds.store import RunFolder
from dpe_ray.rounds.tools import Places, check_search, make_tools, read_places
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.slot import ACQUIRING, SlotConfig
from dpe_ray.supply.annotate.slot import ROLES as SLOT_ROLES
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.construct.order import OrderConfig
from dpe_ray.supply.construct.supplier import ConstructSupplier
from dpe_ray.supply.quota_book import CALLS_PER_SLOT
from dpe_ray.supply.supplier import Supplied, Supplier
from dpe_ray.types import DataPlan, ImageRef, Need, PolicyRef, Rejection


class Suppliers:
    """Makes a round's suppliers."""

    def __init__(self, config: RunConfig, run: RunFolder, sets: Sets, machine: Machine) -> None:
        self._config, self._run, self._sets, self._machine = config, run, sets, machine
        self._workers = (config.supply.workers.min, config.supply.workers.max)
        self._progress = PoolProgress(sets.drawn_from, run, child_seed(config.seed, "pool"))
        check_search(config, sets)
        self._retrieval = Retrieval(config, run, sets, machine)

    def make(self, name: str, policy: PolicyRef, plan: DataPlan, index: int, lines: QuotaLines) -> Supplier:
        """One supplier by its name in `supply.order`; `lines` are told of its book."""
        if name == "retrieve":
            return self._retrieval.supplier(policy, index)
        filled = self._construct if name == "construct" else self._annotate
        return filled(policy, plan, index, lines)

    def close(self, supplied: Supplied, index: int) -> None:
        """Note which images a round used up: the next one goes on behind them."""
        self._progress.end(index, supplied.images)

    def _construct(self, policy: PolicyRef, plan: DataPlan, index: int, lines: QuotaLines) -> Supplier:
        """Draw pictures by program; what no program can draw is left to the next supplier."""
        config, settings, stage = self._config, self._config.supply, f"{index:02d}-supply"
        roles = ("planner", "student") if settings.construct.planner else ("student",)

        async def book(wanted: Mapping[str, int]) -> QuotaBook:
            await grant(self._machine.calls, self._run, config, stage)
            # the planner's door keeps to the budget; slots go on without it, and cost nothing then
            book = self._machine.book(dict(wanted), settings.slots_per_sample, sys.maxsize, CALLS_PER_SLOT)
            return lines.watch("construct", book)

        return ConstructSupplier(
            OrderConfig(
                doors={role: self._machine.door(role, stage, policy.version) for role in roles},
                store=ImageStore(self._run.images),
                programs=settings.construct.programs,
                contamination=self._sets.held_out,
                pass_rate=settings.pass_rate,
                pass_rate_samples=settings.pass_rate_samples,
                by_example=by_example(plan, config.train),
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
        return islice(
            self._sets.drawn_from().draw(seed=child_seed(self._config.seed, "construct", "pool", index)), slots
        )

    def _annotate(self, policy: PolicyRef, plan: DataPlan, index: int, lines: QuotaLines) -> Supplier:
        """Annotate pool images; every round goes on in the pool where the last one stopped."""
        config, settings, stage = self._config, self._config.supply, f"{index:02d}-supply"
        slots = round(plan.total * settings.slots_per_sample)
        tools = make_tools(config, self._run, self._sets, self._machine.calls, stage)
        roles = (*SLOT_ROLES, *ACQUIRING) if tools else SLOT_ROLES
        repeats = config.runtime.deterministic
        places = self._places(index) if tools else Places()
        slot = SlotConfig(
            doors={role: self._machine.door(role, stage, policy.version) for role in roles},
            contamination=self._sets.held_out,
            round=index,
            policy_version=policy.version,
            seed=child_seed(config.seed, "supply", index),
            attempts=settings.attempts,
            solves=settings.solves,
            dissent=settings.dissent,
            pass_rate=settings.pass_rate,
            pass_rate_samples=settings.pass_rate_samples,
            by_example=by_example(plan, config.train),
            answer_tokens=config.answer.max_tokens,
            prompts=config.prompts,
            tools=tools,
        )

        async def book(wanted: Mapping[str, int]) -> QuotaBook:
            left = await grant(self._machine.calls, self._run, config, stage)
            # where arrival must decide nothing, no slot of a wave may meet the end of the budget
            each = slot.most_calls if repeats else CALLS_PER_SLOT
            return lines.watch("annotate", self._machine.book(dict(wanted), settings.slots_per_sample, left, each))

        return AnnotateSupplier(
            None if tools else self._progress.begin(index),
            slots,
            slot,
            book,
            self._machine.mapper,
            self._workers,
            settings.concurrency,
            settings.workers.labels,
            places.of_slots,
            places.numbers,
            in_waves=repeats,
        )

    def _places(self, index: int) -> Places:
        """What slots that begin with a cell had before. A run that repeats gives an interrupted round its own again."""
        if self._config.runtime.deterministic:
            return replace(read_places(self._run, index - 1), of_slots={})
        return read_places(self._run, index)


def by_example(plan: DataPlan, train: TrainConfig) -> frozenset[str]:
    """Cells that lack knowledge, where training shows completions: no sampled answer is right there, nor need be."""
    if Need.KNOWLEDGE not in teachable(train):
        return frozenset()
    return frozenset(cell.cell for cell in plan.cells if cell.need is Need.KNOWLEDGE)
