"""The waves of a construction: which orders come next, what became of them, and what that says about the next."""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from dpe_ray.ports import QuotaBook
from dpe_ray.supply.construct.order import Filled, Order
from dpe_ray.supply.gates import corrected_rate, sample_key
from dpe_ray.supply.stage import Outcome, settle, shortfall_of
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Candidate, ImageRef, Rejection, Sample

LEVEL, STEP = 0.5, 0.15
"""Difficulty of a cell's first wave, and by how much it moves after a wave that was too easy or too hard."""
LEAST_YIELD = 0.25
"""A wave is never larger than what is missing divided by this."""


@dataclass
class Course:
    """Where a cell stands."""

    edits: bool
    """Whether a program that serves it edits pool images."""
    level: float = LEVEL
    """Difficulty of the next wave, 0-1."""
    parts: int = 0
    """Orders so far."""
    tried: int = 0
    accepted: int = 0
    closed: bool = False
    """No program exercises its skill, its slots are used up, or the pool has no more images."""

    def size(self, missing: int, per_call: int) -> int:
        """Slots of the next wave: what is missing, and as many more as failed so far.

        Waves begin with one planner call and double, so that difficulty is found before most of the work is done.
        """
        success = self.accepted / self.tried if self.tried else 1.0
        return min(math.ceil(missing / max(success, LEAST_YIELD)), max(per_call, 2 * self.tried))

    def learn(self, rates: Sequence[float], band: tuple[float, float]) -> None:
        """Move towards what the student passes sometimes; `rates` are corrected for guessing."""
        if rates:
            harder = (fmean(rates) > band[1]) - (fmean(rates) < band[0])
            self.level = min(1.0, max(0.0, self.level + STEP * harder))


class Waves:
    """The one place where a construction is counted."""

    def __init__(
        self,
        courses: Mapping[str, Course],
        wanted: Mapping[str, int],
        seen: AbstractSet[str],
        book: QuotaBook,
        images: Iterable[ImageRef | Rejection] | None,
        per_call: int,
        band: tuple[float, float],
    ) -> None:
        self._courses, self._wanted, self._seen, self._book = courses, wanted, seen, book
        self._images, self._per_call, self._band = iter(images or ()), per_call, band
        self._outcomes: dict[int, Outcome] = {}
        self._calls, self._slots = 0, 0
        self._ask_planner, self._pool_ended = True, False

    async def next(self) -> list[Order]:
        """Orders for what is missing, places in the book reserved; empty when nothing more can be done."""
        orders: list[Order] = []
        missing = shortfall_of(self._wanted, self._settled()[0])
        for cell, course in self._courses.items():
            left = course.size(missing[cell], self._per_call) if cell in missing else 0
            while left > 0 and not course.closed:
                if order := await self._order(cell, course, min(left, self._per_call)):
                    orders.append(order)
                left -= self._per_call
        return orders

    async def settle(self, orders: Sequence[Order], filled: Mapping[int, Filled]) -> None:
        """Count a finished wave and tell the book, in slot order."""
        for order in orders:
            result, course = filled[order.first], self._courses[order.cell]
            self._outcomes |= result.outcomes
            self._calls += result.calls
            self._ask_planner = self._ask_planner and not result.budget_spent
            course.closed = course.closed or result.declined
            rates = [
                corrected_rate(o.sample.difficulty.pass_rate, len(o.sample.options))
                for o in result.outcomes.values()
                if o.sample and o.sample.difficulty
            ]
            course.learn(rates, self._band)
        refused = {rejection.slot for rejection in self._settled()[1]}
        for order in orders:
            await self._tell(order, filled[order.first], refused)

    def supplied(self) -> Supplied:
        """All that was done."""
        samples, rejections = self._settled()
        shortfall = shortfall_of(self._wanted, samples)
        return Supplied(
            samples=samples,
            rejections=rejections,
            proposed=len(self._outcomes),
            shortfall=shortfall,
            closed_by="quota" if not shortfall else "pool" if self._pool_ended else "exhausted",
            calls=self._calls,
        )

    async def _order(self, cell: str, course: Course, count: int) -> Order | None:
        """The next slots, at most `count`; fewer than that close the cell."""
        bases = tuple(islice(self._images, count)) if course.edits else ()
        if course.edits and len(bases) < count:
            count, course.closed, self._pool_ended = len(bases), True, True
        if (size := await self._reserve(cell, count)) < count:
            course.closed = True
        if not size:
            return None
        order = Order(self._slots, size, cell, course.level, course.parts, bases[:size], self._ask_planner)
        self._slots += size
        course.parts += 1
        return order

    async def _reserve(self, cell: str, count: int) -> int:
        """How many of the next slots got a place."""
        for at, slot in enumerate(range(self._slots, self._slots + count)):
            if cell not in await self._book.begin(slot) or not await self._book.reserve(cell, slot):
                await self._book.release(slot, 0)
                return at
        return count

    async def _tell(self, order: Order, result: Filled, refused: AbstractSet[int]) -> None:
        course = self._courses[order.cell]
        for slot in range(order.first, order.first + order.count):
            calls = result.calls if slot == order.first else 0
            course.tried += slot in result.outcomes
            outcome = result.outcomes.get(slot)
            if isinstance(outcome, Candidate) and slot not in refused:
                course.accepted += 1
                refusal = await self._book.commit(slot, sample_key(outcome.sample), calls)
                assert not refusal, f"the book and the wave count differently: {refusal}"
            else:
                await self._book.release(slot, calls)

    def _settled(self) -> tuple[tuple[Sample, ...], tuple[Rejection, ...]]:
        return settle(self._outcomes, self._wanted, self._seen)
