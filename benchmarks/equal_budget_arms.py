"""The arms of equal_budget.py: what each orders, from whom, at what price, and how it trains.

An arm diagnoses and plans once. Its plan is then ordered in portions, each a supply stage of its own, so that every
prefix has the plan's mixture; a portion goes on in pool and support set where the last one stopped.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from equal_budget_world import World

from dpe_ray.config import RunConfig, load_config
from dpe_ray.diagnose.probe import select_probe
from dpe_ray.grading.options import spread_answers
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.micro.world import CATEGORY_OF, SKILLS
from dpe_ray.plan.stage import make_plan
from dpe_ray.plan.teachable import teachable
from dpe_ray.rounds.live import QuotaLines
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.supplying import Suppliers
from dpe_ray.seeds import child_seed
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.stage import supply
from dpe_ray.supply.supplier import Supplied, Supplier
from dpe_ray.train.settings import ChainSettings, Settings, SftSettings
from dpe_ray.types import CellDiagnosis, DataPlan, Diagnosis, Prompt, Sample

SILENT = QuotaLines("", lambda line: None)
PORTION = 64
"""Samples ordered at once."""
FULL_CALLS, FULL_STEPS = 4000, 40
"""What a round of jobs/micro.yaml spends, and its updates: both scale together."""


@dataclass(frozen=True)
class Arm:
    """One way to choose what is learned."""

    yaml: str
    overrides: tuple[str, ...] = ()
    diagnosis: str = ""
    """Arms with the same one share it; empty: nothing is diagnosed, the world's 24 cells are known."""
    drawn: bool = False
    """Every sample's cell is drawn at random."""
    labelled: bool = False
    """Samples of the support set in random order: nothing is diagnosed, listed or retrieved, and no teacher asked."""

    def config(self, seed: int, final: Path) -> RunConfig:
        """The configuration of one run."""
        suite = f"final=[{{suite: '{final}'}}]"
        return load_config(self.yaml, (f"seed={seed}", suite, "budget.teacher_calls=1000000", *self.overrides))


ARMS = {
    "random": Arm("jobs/micro.yaml", drawn=True),
    "uniform": Arm("jobs/micro.yaml", ("plan.method=uniform",)),
    "tiered": Arm("jobs/micro.yaml", diagnosis="categories"),
    "random_support": Arm("jobs/error_driven.yaml", labelled=True),
    "error_driven": Arm("jobs/error_driven.yaml", diagnosis="answer_switch"),
    "unified": Arm("jobs/unified.yaml", diagnosis="both"),
    "shuffled": Arm("jobs/unified.yaml", ("plan.permute_seed=1",), diagnosis="both"),
}


@dataclass(frozen=True)
class Priced:
    """A sample, and the teacher calls spent when it was there: diagnosis, labelling and failed slots included."""

    sample: Sample
    calls: int


@dataclass(frozen=True)
class Stream:
    """What one arm supplied, in order."""

    samples: tuple[Priced, ...]
    diagnosis_calls: int
    """Teacher calls of the diagnosis."""
    labelling_calls: int
    """Of labelling the support set."""
    calls: int
    """All teacher calls."""
    rejected: dict[str, int]
    slots: dict[str, int]
    """Annotation slots that reserved a place, by cell."""
    quotas: dict[str, int]
    """Of the plan."""

    def within(self, calls: int, most: int) -> list[Sample]:
        """The prefix that a budget pays, at most `most` samples."""
        return [priced.sample for priced in self.samples if priced.calls <= calls][:most]


async def diagnosed(config: RunConfig, world: World) -> tuple[Diagnosis, int]:
    """Diagnose the base policy; gives the teacher calls with it."""
    before = world.calls
    diagnosis, _ = await make_stages(config, world.run, world.sets, world.machine()).diagnose(world.base, 1)
    return diagnosis, world.calls - before


def undiagnosed() -> Diagnosis:
    """The world's cells, of which nothing is known."""
    cells = sorted((CATEGORY_OF[skill], skill) for skill in SKILLS)
    return Diagnosis(0, tuple(CellDiagnosis(c, s, 0, 0, 0.0, 1.0, {}) for c, s in cells), "", 0, 0)


def from_support(config: RunConfig, world: World) -> Stream:
    """The support set in random order, free of charge."""
    order = list(world.sets.support)
    Random(child_seed(config.seed, "support")).shuffle(order)
    return Stream(tuple(Priced(sample, 0) for sample in order), 0, 0, 0, {}, {}, {})


async def supplied(
    arm: Arm, config: RunConfig, world: World, diagnosis: Diagnosis, spent: int, most_calls: int
) -> Stream:
    """Supply portion after portion until the calls are spent, the samples suffice, or a portion gives nothing."""
    if arm.labelled:
        return from_support(config, world)
    suppliers = Suppliers(config, world.run, world.sets, world.machine())
    found: list[Priced] = []
    rejected: Counter[str] = Counter()
    slots: Counter[str] = Counter()
    wanted, labelling, total = samples_at(most_calls, config), 0, spent
    plan, dealt = make_plan(diagnosis, config.plan, taught=teachable(config.train)), Counter[str]()
    for index in range(1, 1000):
        rng = Random(child_seed(config.seed, "drawn", index))
        ordered = _ordered(plan, _drawn(plan, rng) if arm.drawn else _next(plan, dealt))
        makers = [suppliers.make(name, world.base, ordered, index, SILENT) for name in config.supply.order]
        got, labelled, spent_here = await _asked(world, ordered, makers, found)
        labelling += labelled
        rejected.update(r.gate for r in got.rejections)
        # the support set is labelled before anything of it is found, and found before anything is written
        priced, cells = _priced(got.samples, world.mapper.slots, total + labelled)
        found += priced
        slots.update(cells)
        total += spent_here
        if total >= most_calls or len(found) >= wanted or not got.proposed:
            break
    return Stream(tuple(found), spent, labelling, total, dict(rejected), dict(slots), plan.quotas)


async def _asked(
    world: World, plan: DataPlan, suppliers: Sequence[Supplier], found: Sequence[Priced]
) -> tuple[Supplied, int, int]:
    """Fill one portion: what came, the calls of labelling among its calls, and all its calls."""
    world.mapper.slots.clear()
    calls, labelled = world.calls, world.labelling_calls
    got = await supply(plan, suppliers, {sample_key(priced.sample) for priced in found})
    return got, world.labelling_calls - labelled, world.calls - calls


def samples_at(calls: int, config: RunConfig) -> int:
    """Most samples at a budget: the total of the YAML at `FULL_CALLS`, else in proportion."""
    return round(config.plan.total * calls / FULL_CALLS)


def steps_at(calls: int) -> int:
    """Updates at a budget, the same for all arms."""
    return round(FULL_STEPS * calls / FULL_CALLS)


def lessons(config: RunConfig, world: World, samples: Sequence[Sample], calls: int) -> list[Prompt]:
    """Samples and replay, as the stages of a round put them together; replay grows with the budget too."""
    seed = child_seed(config.seed, "train", 1)
    taken = {sample.id for sample in samples}
    left = [sample for sample in world.sets.support if sample.id not in taken]
    replay = select_probe(left, round(config.plan.replay * samples_at(calls, config)), seed)
    return [answer_prompt(sample) for sample in spread_answers([*samples, *replay])]


def settings_at(config: RunConfig, lessons: int, steps: int) -> Settings:
    """The YAML's training with `steps` updates in all; a chain's supervised ones count among them."""
    from dpe_ray.runtime.train_job import method_settings  # imports Ray, which nothing else here needs

    settings = method_settings(config.train)
    if isinstance(settings, SftSettings):
        epochs = max(1, round(steps * settings.batch_size / lessons))
        return replace(settings, epochs=epochs, batch_size=math.ceil(epochs * lessons / steps))
    if isinstance(settings, ChainSettings):
        first = math.ceil(settings.sft.epochs * lessons / settings.sft.batch_size)
        return replace(settings, grpo=replace(settings.grpo, steps=max(1, steps - first)))
    return replace(settings, steps=steps)


def _next(plan: DataPlan, dealt: Counter[str]) -> Counter[str]:
    """Quotas of the next portion: each sample in turn is ordered for the cell that lies furthest behind its share."""
    before = dealt.copy()
    for number in range(dealt.total() + 1, dealt.total() + PORTION + 1):
        behind = max(plan.quotas, key=lambda cell: number * plan.quotas[cell] / plan.total - dealt[cell])
        dealt[behind] += 1
    return dealt - before


def _drawn(plan: DataPlan, rng: Random) -> Counter[str]:
    return Counter(rng.choices([cell.cell for cell in plan.cells], k=PORTION))


def _ordered(plan: DataPlan, quotas: Counter[str]) -> DataPlan:
    return DataPlan(tuple(replace(cell, quota=quotas[cell.cell]) for cell in plan.cells), PORTION)


def _priced(samples: Sequence[Sample], slots: Sequence[dict], spent: int) -> tuple[list[Priced], Counter[str]]:
    """Give every sample of a portion its price: retrieved ones come first and cost nothing more."""
    price, calls, cells = {}, spent, Counter[str]()
    for slot in sorted(slots, key=lambda row: row["slot"]):
        calls += slot["calls"]
        outcome = slot["outcome"]
        sample = outcome.sample
        cells[sample.provenance.cell if sample else ""] += 1
        if sample is not None:
            price[sample.id] = calls
    return [Priced(s, price[s.id] if s.provenance.source == "generated" else spent) for s in samples], cells
