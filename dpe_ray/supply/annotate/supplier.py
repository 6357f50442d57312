"""Annotation as a supplier: streams slots until the quotas are filled; results that come twice are taken once."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import repeat
from typing import cast

from dpe_ray.ports import MapSpec, Place, QuotaBook, Row, RowMapper
from dpe_ray.supply.annotate.rows import SlotRows
from dpe_ray.supply.annotate.slot import SlotConfig, SlotJob, annotate_slot
from dpe_ray.supply.annotate.waves import fill_in_waves
from dpe_ray.supply.stage import settle, shortfall_of
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import DataPlan, ImageRef, Rejection


@dataclass(frozen=True)
class AnnotateSupplier:
    """Fills cells with questions that a team of agents writes about images, one image per slot."""

    images: Iterable[ImageRef | Rejection] | None
    """In the order in which they are used up, read lazily; a Rejection stands for an image that cannot be used. None:
    slots begin with a cell, and `config.tools` find its image."""
    slots: int
    """Most slots that may be begun."""
    config: SlotConfig
    book: Callable[[Mapping[str, int]], Awaitable[QuotaBook]]
    """Starts the book of what is wanted per cell."""
    mapper: RowMapper
    workers: tuple[int, int] = (1, 1)
    """Least and most workers."""
    concurrency: int = 16
    """Slots in flight per worker."""
    labels: Mapping[str, float] = field(default_factory=dict)
    """Custom resources of a worker."""
    places: Mapping[int, Place] = field(default_factory=dict)
    """Slot to what it was assigned before an interruption."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Places that each cell had before, over all rounds."""
    in_waves: bool = False
    """Whether the outcome must not depend on which slot ends first (`waves`); costs time at the end of every wave."""
    name: str = "annotate"

    async def fill(self, plan: DataPlan, wanted: Mapping[str, int], seen: AbstractSet[str]) -> Supplied:
        """As `Supplier.fill`.

        Ends when no cell is open, no slot in flight can still be committed and what ended has arrived.
        """
        book = await self.book(wanted)
        if self.images is None:
            await book.restore(self.places, self.numbers)
        instructions = {cell.cell: cell.instruction for cell in plan.cells}
        job = SlotJob(self.config, book, instructions, frozenset(seen))
        spec = MapSpec(annotate_slot, job, self.workers, self.concurrency, self.name, dict(self.labels))
        rows = SlotRows(repeat(None) if self.images is None else iter(self.images), self.slots)
        if self.in_waves:
            await fill_in_waves(self.mapper, spec, rows, book)
        else:
            await self._streamed(spec, rows, book)
        samples, rejections = settle(rows.outcomes, wanted, seen)
        return Supplied(
            samples=samples,
            rejections=rejections,
            proposed=len(rows.outcomes),
            shortfall=shortfall_of(wanted, samples),
            closed_by=(await book.state()).closed_by or rows.end,
            calls=sum(rows.calls.values()),
            images=0 if self.images is None else rows.sent,
        )

    async def _streamed(self, spec: MapSpec, rows: SlotRows, book: QuotaBook) -> None:
        state = await book.state()
        results = cast("AsyncGenerator[Row, None]", self.mapper.map(spec, rows))
        async with aclosing(results):
            while not rows.all_of(state) and (row := await anext(results, None)) is not None:
                rows.take(row)
                state = await book.state()
                rows.closed = bool(state.closed_by)
