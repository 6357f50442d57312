"""How hard a process presses one endpoint: places that shrink and grow, when it counts as down, what waits too long.

Places follow additive increase and multiplicative decrease (Chiu and Jain 1989, Computer Networks and ISDN Systems 17),
which shares an endpoint fairly among processes that know nothing of each other.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]

SHRINK = 0.7
"""What is left of the places when an endpoint is pressed too hard."""
GROW_AFTER = 8
"""Successes for one more place. With `SHRINK`, 2 % of stray refusals leave about twenty places."""
REPEATED = 3
"""Failures without a success between that count as being pressed too hard."""
DOWN_AFTER_S = 120.0
"""So long an endpoint must have failed everything to count as down: longer than most restarts."""
DOWN_AFTER_FAILURES = 10
STALL_S = 120.0
"""So long no call of a role may end before it is told."""


class Places:
    """Calls in flight: at most `most`, fewer while the endpoint is pressed too hard, at least one."""

    def __init__(self, most: int, clock: Clock = time.monotonic) -> None:
        self._most, self._limit, self._clock = most, float(most), clock
        self._taken = 0
        self._pressed_at = -float("inf")
        self._free = asyncio.Condition()

    @property
    def limit(self) -> int:
        """Places that there are now."""
        return int(self._limit)

    async def __aenter__(self) -> None:
        """Wait for a place."""
        async with self._free:
            await self._free.wait_for(lambda: self._taken < self.limit)
            self._taken += 1

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        self._taken -= 1
        async with self._free:
            self._free.notify(max(self.limit - self._taken, 0))

    def grow(self) -> None:
        """A call succeeded."""
        self._limit = min(self._limit + 1 / GROW_AFTER, float(self._most))

    def shrink(self, began: float) -> None:
        """An attempt that began at `began` was refused. Those that were under way together count once."""
        if began >= self._pressed_at:
            self._limit = max(self._limit * SHRINK, 1.0)
            self._pressed_at = self._clock()


class Breaker:
    """Tells a passing failure from an endpoint that is down."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failures, self._since = 0, 0.0

    def succeeded(self) -> None:
        """Something came back, were it a refusal."""
        self._failures = 0

    def failed(self) -> None:
        """An attempt got no answer."""
        if not self._failures:
            self._since = self._clock()
        self._failures += 1

    @property
    def is_repeated(self) -> bool:
        """Whether several attempts in turn got no answer."""
        return self._failures >= REPEATED

    @property
    def is_open(self) -> bool:
        """Whether the endpoint is down: asking on would only use up what there is to ask about."""
        return self._failures >= DOWN_AFTER_FAILURES and self._clock() - self._since >= DOWN_AFTER_S


class StallWatch:
    """Tells of a role whose calls are in flight while none of them ends."""

    def __init__(self, tell: Callable[[str, int, float], None], clock: Clock = time.monotonic) -> None:
        """`tell` gets the role, its calls in flight and the seconds since one of them ended."""
        self._tell, self._clock = tell, clock
        self._in_flight = Counter[str]()
        self._moved: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self, role: str) -> Iterator[None]:
        """Watch one call."""
        if not self._in_flight[role]:
            self._moved[role] = self._clock()
        self._in_flight[role] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STALL_S, self._tick)
        try:
            yield
        finally:
            self._in_flight[role] -= 1
            self._moved[role] = self._clock()

    def check(self) -> None:
        """Tell of every role that is stuck now."""
        for role, calls in self._in_flight.items():
            if calls and (seconds := self._clock() - self._moved[role]) >= STALL_S:
                self._tell(role, calls, seconds)

    def _tick(self) -> None:
        self.check()
        busy = any(self._in_flight.values())
        self._timer = asyncio.get_running_loop().call_later(STALL_S, self._tick) if busy else None
