"""Accepted samples per teacher call, construct beside annotate, both with a teacher that is wrong in one case of five.

No student takes part: its band refuses whichever supplier made the sample, and its calls are free.

construct: one of five planner replies is no JSON, and one of five parameter sets does not validate. annotate: the
oracle of the micro world with error_rate 0.2, errors of its roles independent, one blind solve. At its best, with a
teacher that never errs and images that always fit, annotate takes four calls a sample.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.sources import materialise
from dpe_ray.micro.world import CATEGORIES, skills_for
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool
from dpe_ray.ports import ChatReply, ChatRequest, QuotaBook
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.slot import ROLES, SlotConfig
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.construct.order import OrderConfig
from dpe_ray.supply.construct.registry import load_programs
from dpe_ray.supply.construct.supplier import ConstructSupplier
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.supply.supplier import Supplied, SupplierYield
from dpe_ray.types import CellPlan, DataPlan

ERROR_RATE = 0.2
SLOTS_PER_SAMPLE = 8.0


@dataclass
class SloppyPlanner:
    """A planner that knows the programs, and is wrong in one case of five. Its own door."""

    seed: int
    programs: dict[str, str]
    """Cell to the program that serves it."""
    asked: int = field(default=0)

    def open(self) -> "SloppyPlanner":
        """Itself: nothing is sent anywhere."""
        return self

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`: eight parameter sets."""
        self.asked += 1
        rng = Random(child_seed(self.seed, "sloppy", request.item, self.asked))
        cell = request.item.partition("#")[0]
        name, ask = self.programs[cell], cell.partition("/")[2]
        program = load_programs((name,))[name]
        wanted = [program.sample(ask, rng.random(), rng).model_dump(mode="json") for _ in range(8)]
        spoilt = [{**params, "ask": "write_code"} if rng.random() < ERROR_RATE else params for params in wanted]
        text = json.dumps({"samples": [{"program": name, "params": params} for params in spoilt]})
        return ChatReply((text[1:] if rng.random() < ERROR_RATE else text,), "sloppy", f"call-{self.asked}")


async def by_construct(store: ImageStore, samples: int, seed: int) -> SupplierYield:
    """Fill so many samples over the first skill of every program that needs no pool image."""
    programs = {
        f"{program.categories[0]}/{program.skills[0]}": name
        for name, program in load_programs().items()
        if not program.on_image
    }
    config = OrderConfig({"planner": SloppyPlanner(seed, programs)}, store, pass_rate_samples=0, seed=seed)
    return await _filled(ConstructSupplier(config, _book, LocalMapper()), tuple(programs), samples)


async def by_annotate(folder: Path, store: ImageStore, samples: int, seed: int) -> SupplierYield:
    """Fill so many samples over the first skill of every category of the micro world."""
    world = materialise(folder)
    oracle = EngineDoor(OracleEngine(str(world / "truth.jsonl"), {"error_rate": ERROR_RATE}), "oracle")
    config = SlotConfig(dict.fromkeys(ROLES, oracle), pass_rate=(0.0, 1.0), pass_rate_samples=1, seed=seed)
    slots = round(samples * SLOTS_PER_SAMPLE)
    images = islice(ImagePool(str(world / "pool"), store).draw(seed=seed), slots)
    cells = tuple(f"{category}/{skills_for(category)[0]}" for category in CATEGORIES)
    return await _filled(AnnotateSupplier(images, slots, config, _book, LocalMapper()), cells, samples)


def told(made: SupplierYield) -> dict[str, float]:
    """As a line of the result."""
    return {**asdict(made), "samples_per_call": made.accepted / max(1, made.calls)}


async def _filled(supplier: ConstructSupplier | AnnotateSupplier, cells: Sequence[str], samples: int) -> SupplierYield:
    quota = -(-samples // len(cells))
    plan = DataPlan(tuple(CellPlan(*_split(cell), 1 / len(cells), quota, "") for cell in cells), quota * len(cells))
    made: Supplied = await supplier.fill(plan, plan.quotas, frozenset())
    return SupplierYield(made.proposed, len(made.samples), made.calls)


async def _book(wanted: Mapping[str, int]) -> QuotaBook:
    return Quotas(wanted, SLOTS_PER_SAMPLE, 10**9)


def _split(cell: str) -> tuple[str, str]:
    category, _, skill = cell.partition("/")
    return category, skill
