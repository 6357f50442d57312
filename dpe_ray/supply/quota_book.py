"""The quotas of a supply stage: who may start costly work, what counts, and when it is over."""

import math
from collections import Counter
from collections.abc import Mapping

from dpe_ray.ports import QuotaState

CALLS_PER_SLOT = 4
"""What a slot in flight is expected to cost: planner, question writer, validator, solver once each."""


class Quotas:
    """The plain `QuotaBook`. No method awaits anything, so within one event loop every method is atomic.

    More slots may hold a place in a cell than it wants samples: most slots fail, and `commit` refuses what comes late.
    The book closes for good when what is left would not pay for another slot beside those in flight; these finish.
    """

    def __init__(self, quotas: Mapping[str, int], slots_per_sample: float, calls: int) -> None:
        """Start empty; a cell is exhausted after quota x `slots_per_sample` slots, `calls` is the budget."""
        self._quotas = dict(quotas)
        self._caps = {cell: math.ceil(quota * slots_per_sample) for cell, quota in quotas.items()}
        self._budget = calls
        self._is_spent = False
        self._places: dict[int, str] = {}
        """Slot -> cell of every reservation, whatever became of it."""
        self._in_flight: set[int] = set()
        self._accepted: dict[int, str] = {}
        """Slot -> cell."""
        self._spent: dict[int, int] = {}
        """Slot -> calls."""

    async def begin(self, slot: int) -> dict[str, int]:
        """As `QuotaBook.begin`."""
        cells = self._open()
        if cells:
            self._in_flight.add(slot)
        return cells

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `QuotaBook.reserve`. A slot that runs again keeps the place it had."""
        if self._places.get(slot) != cell:
            if cell not in self._unfilled():
                return False
            self._accepted.pop(slot, None)
            self._places[slot] = cell
        return True

    async def commit(self, cell: str, slot: int, calls: int) -> bool:
        """As `QuotaBook.commit`. A slot that commits twice counts once."""
        self._finish(slot, calls)
        if self._accepted.get(slot) != cell and self._wanted().get(cell, 0) <= 0:
            return False
        self._accepted[slot] = cell
        return True

    async def release(self, cell: str, slot: int, calls: int) -> None:
        """As `QuotaBook.release`."""
        self._finish(slot, calls)
        self._accepted.pop(slot, None)

    async def close(self) -> None:
        """As `QuotaBook.close`."""
        self._is_spent = True

    async def state(self) -> QuotaState:
        """As `QuotaBook.state`."""
        accepted, slots = Counter(self._accepted.values()), Counter(self._places.values())
        is_open = bool(self._open())
        return QuotaState(
            quotas=dict(self._quotas),
            accepted={cell: accepted[cell] for cell in self._quotas},
            slots={cell: slots[cell] for cell in self._quotas},
            calls=sum(self._spent.values()),
            closed_by="" if is_open else self._reason(),
            over=not is_open and not any(map(self._may_commit, self._in_flight)),
        )

    def _open(self) -> dict[str, int]:
        begun = len(self._in_flight - self._spent.keys())
        if sum(self._spent.values()) + CALLS_PER_SLOT * (begun + 1) > self._budget:
            self._is_spent = True
        return {} if self._is_spent else self._unfilled()

    def _unfilled(self) -> dict[str, int]:
        slots = Counter(self._places.values())
        return {cell: n for cell, n in self._wanted().items() if n > 0 and slots[cell] < self._caps[cell]}

    def _may_commit(self, slot: int) -> bool:
        place = self._places.get(slot)
        return self._wanted()[place] > 0 if place else bool(self._unfilled())

    def _finish(self, slot: int, calls: int) -> None:
        self._in_flight.discard(slot)
        self._spent[slot] = max(calls, self._spent.get(slot, 0))

    def _wanted(self) -> dict[str, int]:
        accepted = Counter(self._accepted.values())
        return {cell: quota - accepted[cell] for cell, quota in self._quotas.items()}

    def _reason(self) -> str:
        if all(n <= 0 for n in self._wanted().values()):
            return "quota"
        return "budget" if self._is_spent else "exhausted"
