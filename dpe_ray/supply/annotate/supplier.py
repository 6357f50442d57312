"""Annotation as a supplier: streams slots until the quotas are filled; results that come twice are taken once."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import repeat
from typing import cast

from dpe_ray.ports import MapSpec, Place, QuotaBook, QuotaState, Row, RowMapper
from dpe_ray.supply.annotate.slot import SlotConfig, SlotJob, annotate_slot
from dpe_ray.supply.stage import Outcome, settle, shortfall_of
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Candidate, DataPlan, ImageRef, Rejection


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
        slots = _Slots(repeat(None) if self.images is None else iter(self.images), self.slots)
        state = await book.state()
        results = cast("AsyncGenerator[Row, None]", self.mapper.map(spec, slots))
        async with aclosing(results):
            while not slots.all_of(state) and (row := await anext(results, None)) is not None:
                slots.take(row)
                state = await book.state()
                slots.closed = bool(state.closed_by)
        samples, rejections = settle(slots.outcomes, wanted, seen)
        return Supplied(
            samples=samples,
            rejections=rejections,
            proposed=len(slots.outcomes),
            shortfall=shortfall_of(wanted, samples),
            closed_by=state.closed_by or slots.end,
            calls=sum(slots.calls.values()),
            images=0 if self.images is None else slots.sent,
        )


@dataclass
class _Slots:
    """The rows of a supply, one per slot until it is closed, and their results: unordered, some of them twice."""

    images: Iterator[ImageRef | Rejection | None]
    most: int
    sent: int = 0
    closed: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        if self.closed or self.sent >= self.most:
            raise StopIteration
        row = {"slot": self.sent, "image": next(self.images)}
        self.sent += 1
        return row

    def __length_hint__(self) -> int:
        return self.most - self.sent

    @property
    def end(self) -> str:
        """What ended the rows when the book was still open."""
        return "slots" if self.sent == self.most else "pool"

    def take(self, row: Row) -> None:
        """Keep one result per slot; a sample counts more than the refusal of another run."""
        slot, outcome = row["slot"], row["outcome"]
        if slot not in self.outcomes or isinstance(outcome, Candidate):
            self.outcomes[slot] = outcome
        self.calls[slot] = max(row["calls"], self.calls.get(slot, 0))

    def all_of(self, state: QuotaState) -> bool:
        """Whether supply is over and all that ended is here: the book knows of slots before their rows arrive."""
        here = sum(isinstance(outcome, Candidate) for outcome in self.outcomes.values())
        return state.over and here >= sum(state.accepted.values()) and len(self.outcomes) >= state.ended
