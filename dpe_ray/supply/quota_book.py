"""The quotas of a supply stage: who may start costly work, what counts, and when it is over."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from dpe_ray.ports import Place, QuotaState

CALLS_PER_SLOT = 4
"""What a slot is expected to cost: planner, question writer, validator, solver once each."""


class Quotas:
    """The plain `QuotaBook`. No method awaits anything, so within one event loop every method is atomic.

    More slots may hold a place in a cell than it wants samples: most slots fail, and `commit` refuses what comes late.
    The book closes for good with the first slot that the budget might not let end, beside those that ended and those
    under way. A slot may want more than was expected: the `CallBudget` bounds what it gets.
    """

    def __init__(
        self, quotas: Mapping[str, int], slots_per_sample: float, calls: int, calls_per_slot: int = CALLS_PER_SLOT
    ) -> None:
        """Start empty; a cell is exhausted after quota x `slots_per_sample` slots, `calls` is the budget."""
        self._calls_per_slot = calls_per_slot
        self._quotas = dict(quotas)
        self._caps = {cell: math.ceil(quota * slots_per_sample) for cell, quota in quotas.items()}
        self._budget = calls
        self._is_closed = False
        self._offered: dict[int, tuple[str, ...]] = {}
        self._in_flight: set[int] = set()
        self._places: dict[int, str] = {}
        """Slot -> cell of every reservation, whatever became of it."""
        self._slots = Counter[str]()
        self._assigned: dict[int, Place] = {}
        self._known: dict[int, Place] = {}
        """Of `restore`: assigned once this slot comes again."""
        self._numbers = Counter[str]()
        """Cell -> first number that no place has."""
        self._committed: set[int] = set()
        self._keys: set[str] = set()
        self._accepted = Counter[str]()
        self._spent: dict[int, int] = {}
        """Slot -> calls."""

    async def begin(self, slot: int) -> tuple[str, ...]:
        """As `QuotaBook.begin`."""
        if slot not in self._offered:
            promised = self._calls_per_slot * len(self._in_flight)
            self._is_closed = self._is_closed or self._is_spent(promised)
            self._offered[slot] = self._open()
        cells = self._offered[slot]
        if cells:
            self._in_flight.add(slot)
        return cells

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `QuotaBook.reserve`."""
        if slot not in self._places and cell in self._unfilled():
            self._places[slot] = cell
            self._slots[cell] += 1
        return self._places.get(slot) == cell

    async def assign(self, slot: int) -> Place | None:
        """As `QuotaBook.assign`."""
        if slot not in self._assigned:
            if not (cells := await self.begin(slot)):
                return None
            place = self._known.get(slot) or self._next_place(cells)
            if not await self.reserve(place.cell, slot):
                return None
            self._assigned[slot] = place
        self._in_flight.add(slot)
        return self._assigned[slot]

    async def restore(self, places: Mapping[int, Place], numbers: Mapping[str, int]) -> None:
        """As `QuotaBook.restore`."""
        self._known = dict(places)
        self._numbers = Counter(dict(numbers))

    async def commit(self, slot: int, key: str, calls: int) -> str:
        """As `QuotaBook.commit`."""
        self._finish(slot, calls)
        if slot in self._committed:
            return ""
        if key in self._keys:
            return "duplicate"
        cell = self._places[slot]
        if self._wanted()[cell] <= 0:
            return "quota"
        self._committed.add(slot)
        self._keys.add(key)
        self._accepted[cell] += 1
        return ""

    async def release(self, slot: int, calls: int) -> None:
        """As `QuotaBook.release`."""
        self._finish(slot, calls)

    async def close(self) -> None:
        """As `QuotaBook.close`."""
        self._is_closed = True

    async def state(self) -> QuotaState:
        """As `QuotaBook.state`."""
        is_open = bool(self._open())
        at_work, spent = self._at_work(), Counter[str]()
        for slot, cell in self._places.items():
            spent[cell] += self._spent.get(slot, 0)
        return QuotaState(
            quotas=dict(self._quotas),
            accepted={cell: self._accepted[cell] for cell in self._quotas},
            slots={cell: self._slots[cell] for cell in self._quotas},
            in_flight={cell: at_work[cell] for cell in self._quotas},
            spent={cell: spent[cell] for cell in self._quotas},
            ended=len(self._spent),
            calls=sum(self._spent.values()),
            closed_by="" if is_open else self._reason(),
            over=not is_open and not any(map(self._may_commit, self._in_flight)),
        )

    def _next_place(self, cells: Sequence[str]) -> Place:
        at_work = self._at_work()
        cell = min(cells, key=lambda cell: (self._accepted[cell] + at_work[cell]) / self._quotas[cell])
        number = self._numbers[cell]
        self._numbers[cell] += 1
        return Place(cell, number)

    def _at_work(self) -> Counter[str]:
        return Counter(self._places[slot] for slot in self._in_flight if slot in self._places)

    def _open(self) -> tuple[str, ...]:
        return () if self._is_spent() else self._unfilled()

    def _is_spent(self, promised: int = 0) -> bool:
        return self._is_closed or sum(self._spent.values()) + promised + self._calls_per_slot > self._budget

    def _unfilled(self) -> tuple[str, ...]:
        wanted = self._wanted()
        return tuple(cell for cell in wanted if wanted[cell] > 0 and self._slots[cell] < self._caps[cell])

    def _may_commit(self, slot: int) -> bool:
        place = self._places.get(slot)
        return self._wanted()[place] > 0 if place else bool(self._unfilled())

    def _finish(self, slot: int, calls: int) -> None:
        self._in_flight.discard(slot)
        self._spent[slot] = max(calls, self._spent.get(slot, 0))

    def _wanted(self) -> dict[str, int]:
        return {cell: quota - self._accepted[cell] for cell, quota in self._quotas.items()}

    def _reason(self) -> str:
        if all(n <= 0 for n in self._wanted().values()):
            return "quota"
        return "budget" if self._is_spent() else "exhausted"
