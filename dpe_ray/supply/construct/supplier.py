"""Construction as a supplier: in waves, each as large as what is missing, each as hard as the student needs it.

A wave is ordered from what the waves before it brought and settled in slot order, so arrival decides nothing.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import cast

from dpe_ray.ports import MapSpec, QuotaBook, Row, RowMapper
from dpe_ray.supply.construct.order import Filled, Order, OrderConfig, OrderJob, fill_order, serves
from dpe_ray.supply.construct.registry import load_programs
from dpe_ray.supply.construct.waves import Course, Waves
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import DataPlan, ImageRef, Rejection


@dataclass(frozen=True)
class ConstructSupplier:
    """Fills cells whose categories programs can draw; the others are left to the next supplier."""

    config: OrderConfig
    book: Callable[[Mapping[str, int]], Awaitable[QuotaBook]]
    """Starts the book of what is wanted per cell. Its budget must allow slots that cost no call: a spent budget ends
    the planner's calls, and parameters are sampled from then on."""
    mapper: RowMapper
    images: Iterable[ImageRef | Rejection] | None = None
    """Pool images for programs that edit one, read lazily; None: those programs are not used."""
    per_call: int = 8
    """Parameter sets that one planner call gives."""
    workers: tuple[int, int] = (1, 1)
    """Least and most workers; each draws one picture at a time."""
    concurrency: int = 4
    """Orders in flight per worker."""
    labels: Mapping[str, float] = field(default_factory=dict)
    """Custom resources of a worker."""
    name: str = "construct"

    async def fill(self, plan: DataPlan, wanted: Mapping[str, int], seen: AbstractSet[str]) -> Supplied:
        """As `Supplier.fill`. Costs one planner call, two when its reply must be mended, per `per_call` slots."""
        courses = self._courses(wanted)
        book = await self.book({cell: wanted[cell] for cell in courses})
        waves = Waves(courses, wanted, seen, book, self.images, self.per_call, self.config.pass_rate)
        instructions = {cell.cell: cell.instruction for cell in plan.cells}
        job = OrderJob(self.config, instructions, frozenset(seen))
        while orders := await waves.next():
            await waves.settle(orders, await self._filled(job, orders))
        return waves.supplied()

    def _courses(self, wanted: Mapping[str, int]) -> dict[str, Course]:
        programs, has_pool = load_programs(self.config.programs), self.images is not None
        serving = {cell: serves(programs, cell, has_pool) for cell in wanted}
        return {cell: Course(any(p.on_image for p in able)) for cell, able in serving.items() if able}

    async def _filled(self, job: OrderJob, orders: list[Order]) -> dict[int, Filled]:
        """By the first slot of the order; one that is delivered twice counts once."""
        spec = MapSpec(fill_order, job, self.workers, self.concurrency, self.name, dict(self.labels))
        rows: list[Row] = [{"order": order} for order in orders]
        results: dict[int, Filled] = {}
        async with aclosing(cast("AsyncGenerator[Row, None]", self.mapper.map(spec, rows))) as arriving:
            async for row in arriving:
                results.setdefault(row["order"].first, row["filled"])
        return results
