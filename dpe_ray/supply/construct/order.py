"""One order: a cell goes in, checked samples and counted refusals come out. The recording border of construct."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from dpe_ray.errors import BadReply, BadRequest, BudgetExceeded, ModelUnavailable
from dpe_ray.ports import ChatDoor, Row
from dpe_ray.seeds import child_seed
from dpe_ray.supply import gates
from dpe_ray.supply.annotate.agent import Tally
from dpe_ray.supply.annotate.refusal import SLOT_ERRORS, Refused, require, told
from dpe_ray.supply.annotate.solver import Solver, measure_difficulty
from dpe_ray.supply.construct.maker import (
    PROGRAM_ERRORS,
    ImageSink,
    Recipe,
    construct,
    program_step,
    read_params,
    written,
)
from dpe_ray.supply.construct.planner import ProgramPlanner, Proposal
from dpe_ray.supply.construct.program import Params
from dpe_ray.supply.construct.registry import AnyProgram, load_programs
from dpe_ray.supply.construct.task import Undrawable
from dpe_ray.supply.stage import Outcome
from dpe_ray.taxonomy import UNSPECIFIED, known_name, stems
from dpe_ray.types import Candidate, ImageRef, Provenance, Rejection, Sample

PLANNER_ERRORS = (ModelUnavailable, BadReply, BadRequest, BudgetExceeded)


@dataclass(frozen=True)
class OrderConfig:
    """How orders are filled. Pickles when doors, store and contamination check do."""

    doors: Mapping[str, ChatDoor]
    """planner and student; without a planner all parameters are sampled and no teacher is asked."""
    store: ImageSink
    programs: tuple[str, ...] = ()
    """As `registry.load_programs`."""
    contamination: Callable[[Sample], str | None] | None = None
    """Says why a sample is too near to a held-out item, or None."""
    pass_rate: tuple[float, float] = (0.3, 0.8)
    """Band of the student's pass rate, corrected for guessing, ends included."""
    by_example: frozenset[str] = frozenset()
    """As `SlotConfig.by_example`."""
    pass_rate_samples: int = 9
    """0: the student is not asked and nothing is refused by its pass rate."""
    answer_tokens: int = 256
    """Length limit of the student's answers."""
    round: int = 1
    policy_version: int = 0
    seed: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    """`program_planner` to a prompt file of the user's own."""


@dataclass(frozen=True)
class OrderJob:
    """All that a worker needs."""

    config: OrderConfig
    instructions: Mapping[str, str]
    """What a sample of a cell should exercise, per `category/skill`."""
    seen: frozenset[str] = frozenset()
    """`gates.sample_key` of what was accepted before."""


@dataclass(frozen=True)
class Order:
    """So many samples of one cell."""

    first: int
    """Slot of the first sample; the others follow."""
    count: int
    cell: str
    level: float
    """Difficulty wanted, 0-1."""
    part: int
    """Orders of this cell before it."""
    bases: tuple[ImageRef | Rejection, ...] = ()
    """[count] Pool images, for programs that edit one; empty when there is no pool."""
    ask_planner: bool = True


@dataclass(frozen=True)
class Filled:
    """What became of an order."""

    outcomes: dict[int, Outcome]
    """By slot; slots that were never started are left out."""
    calls: int
    """Teacher calls."""
    budget_spent: bool = False
    declined: bool = False
    """No program can exercise the cell's skill."""


Recipes = Callable[[int], tuple[AnyProgram, Recipe]]
"""Gives the recipe of a slot; raises Refused."""


def fill_order(job: OrderJob) -> "OrderFiller":
    """Build what maps rows {order} to rows {order, filled}: the factory that `MapSpec` names."""
    return OrderFiller(job)


def serves(programs: Mapping[str, AnyProgram], cell: str, has_pool: bool) -> list[AnyProgram]:
    """Programs whose pictures are of the cell's category, in order of their names."""
    category = cell.rpartition("/")[0]
    return [p for _, p in sorted(programs.items()) if category in p.categories and (has_pool or not p.on_image)]


def fitting(programs: Sequence[AnyProgram], skill: str) -> list[tuple[AnyProgram, str]]:
    """(program, ask) whose names share most word stems with the skill's; any, where no skill is specified."""
    asks = [(program, ask) for program in programs for ask in program.skills]
    if skill == UNSPECIFIED:
        return asks
    shared = [len(stems(skill) & stems(f"{ask} {program.name}")) for program, ask in asks]
    best = max(shared, default=0)
    return [pair for pair, number in zip(asks, shared, strict=True) if number == best > 0]


class OrderFiller:
    """Planner, programs and student of one worker."""

    def __init__(self, job: OrderJob) -> None:
        config, self._job = job.config, job
        self._config, self._programs = config, load_programs(config.programs)
        door = config.doors.get("planner")
        self._planner = ProgramPlanner(door.open(), config.prompts.get("program_planner", "")) if door else None
        student = config.doors.get("student")
        self._student = (
            Solver("student", student.open(), 1.0, config.answer_tokens, config.seed)
            if student and config.pass_rate_samples
            else None
        )

    async def __call__(self, row: Row) -> Row:
        """Fill one order; costs no teacher call, one, or two, and one student call per sample drawn."""
        return {"order": row["order"], "filled": await self.fill(row["order"])}

    async def fill(self, order: Order) -> Filled:
        """Ask for parameters, sample what the planner leaves open, and make every sample for itself."""
        tally, outcomes = Tally(), dict[int, Outcome]()
        programs = serves(self._programs, order.cell, bool(order.bases))
        proposals, failure = await self._ask(order, programs, tally)
        pairs = fitting(programs, order.cell.rpartition("/")[2])
        if failure and (failure[0] != "budget" or not pairs):
            outcomes[order.first] = Rejection(order.first, *failure, order.cell)
        recipes: list[Recipes] = [partial(self._proposed, order, programs, proposal) for proposal in proposals]
        if pairs:
            recipes += [partial(self._sampled, order, pairs)] * (order.count - len(outcomes) - len(recipes))
        slots = range(order.first + len(outcomes), order.first + order.count)
        made = [self._outcome(order, slot, find, tally) for slot, find in zip(slots, recipes, strict=False)]
        outcomes |= {outcome.slot: outcome for outcome in await asyncio.gather(*made)}
        declined = not outcomes
        if declined:
            outcomes[order.first] = Rejection(order.first, "no_program", "no program exercises this skill", order.cell)
        return Filled(outcomes, tally.calls, failure is not None and failure[0] == "budget", declined)

    async def _ask(
        self, order: Order, programs: Sequence[AnyProgram], tally: Tally
    ) -> tuple[list[Proposal], tuple[str, str] | None]:
        """Give the planner's proposals, and why there are none when its call failed: (gate, reason)."""
        if not (self._planner and order.ask_planner and programs):
            return [], None
        instruction = self._job.instructions.get(order.cell, "")
        seed = child_seed(self._config.seed, "program_planner", order.cell, order.part)
        try:
            asked = self._planner.propose(
                order.cell,
                instruction,
                programs,
                level=order.level,
                part=order.part,
                count=order.count,
                seed=seed,
                tally=tally,
            )
            return await asked, None
        except PLANNER_ERRORS as error:
            return [], told(error)

    def _proposed(
        self, order: Order, programs: Sequence[AnyProgram], proposal: Proposal, slot: int
    ) -> tuple[AnyProgram, Recipe]:
        by_name = {program.name: program for program in programs}
        if not (name := known_name(proposal.program, by_name)):
            raise Refused("params", f"{proposal.program!r} is no program for this cell")
        return by_name[name], self._recipe(order, by_name[name], read_params(by_name[name], proposal.params), slot)

    def _sampled(self, order: Order, pairs: Sequence[tuple[AnyProgram, str]], slot: int) -> tuple[AnyProgram, Recipe]:
        rng = Random(child_seed(self._config.seed, "sample", order.cell, slot))
        program, ask = rng.choice(pairs)
        low, high = program.difficulty
        try:
            params = program.sample(ask, min(max(order.level, low), high), rng)
        except Undrawable as error:
            raise Refused("draw", f"{program.name}: {error}") from error
        except PROGRAM_ERRORS as error:
            raise Refused("program", f"{program.name}: {type(error).__name__}: {error}") from error
        return program, self._recipe(order, program, params, slot)

    def _recipe(self, order: Order, program: AnyProgram, params: Params, slot: int) -> Recipe:
        seed = child_seed(self._config.seed, "construct", order.cell, slot)
        if not program.on_image:
            return Recipe(program.name, params, seed)
        base = order.bases[slot - order.first]
        if isinstance(base, Rejection):
            raise Refused(base.gate, base.reason)
        return Recipe(program.name, params, seed, base)

    async def _outcome(self, order: Order, slot: int, find: Recipes, planned: Tally) -> Outcome:
        tally, sample, text = Tally(steps=list(planned.steps)), None, ""
        category, _, skill = order.cell.rpartition("/")
        try:
            program, recipe = find(slot)
            tally.steps.append(program_step(program, recipe))
            text = written(program, recipe)
            sample = replace(
                await asyncio.to_thread(construct, program, recipe, self._config.store, category), skills=(skill,)
            )
            self._check(sample)
            sample = await self._measured(sample, tally)
            self._check_pass_rate(sample, order.cell)
            return Candidate(slot, self._finished(sample, order, tally, text))
        except SLOT_ERRORS as error:
            gate, reason = told(error)
            return Rejection(slot, gate, reason, order.cell, sample and self._finished(sample, order, tally, text))

    def _check(self, sample: Sample) -> None:
        require("format", gates.check_format(sample))
        require("leak", gates.check_leak(sample))
        require("duplicate", gates.check_seen(sample, self._job.seen))
        if self._config.contamination:
            require("contamination", self._config.contamination(sample))

    async def _measured(self, sample: Sample, tally: Tally) -> Sample:
        if not self._student:
            return sample
        config = self._config
        rate = await measure_difficulty(self._student, sample, config.pass_rate_samples, config.policy_version, tally)
        return replace(sample, difficulty=rate)

    def _check_pass_rate(self, sample: Sample, cell: str) -> None:
        if sample.difficulty:
            band = gates.band_of(cell, self._config.pass_rate, self._config.by_example)
            require("pass_rate", gates.check_pass_rate(sample.difficulty.pass_rate, band, len(sample.options)))

    def _finished(self, sample: Sample, order: Order, tally: Tally, recipe: str) -> Sample:
        origin = Provenance("constructed", self._config.round, order.cell, tuple(tally.steps), recipe)
        return replace(sample, provenance=origin)
