"""Rows on their way to the workers: read one by one, only so far ahead of what is finished.

A pipeline carries numbers; a worker fetches the row of a number from the feed. So the source is never read as a whole,
and a worker that is lost loses no row: whoever runs its numbers again fetches the same rows.
"""

import asyncio
import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from operator import length_hint
from typing import Any

MOST_PER_PIPELINE = 16_384
"""Numbers of one pipeline; more rows than this take several, one after the other."""
_HELD_S = 0.01
"""Rows of a slow source go one by one; those that come quicker than this wait for the ones behind them."""


class RowFeed:
    """The rows of all maps of a run that are under way, by map and number. Lives in an actor."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, asyncio.Future[bytes | None]]] = {}
        self._ends: dict[str, int] = {}
        self._dropped: dict[str, set[int]] = {}

    async def put(self, map_id: str, first: int, rows: Sequence[bytes]) -> None:
        """The next rows were read. Of a map that is over none is kept."""
        for number, row in enumerate(rows, first):
            if number < self._ends.get(map_id, number + 1):
                self._place(map_id, number).set_result(row)

    async def get(self, map_id: str, numbers: Sequence[int]) -> list[bytes | None]:
        """Wait for rows; None behind the last, and for one whose result nobody waits for."""
        return await asyncio.gather(*[self._get(map_id, number) for number in numbers])

    async def _get(self, map_id: str, number: int) -> bytes | None:
        if number >= self._ends.get(map_id, number + 1) or number in self._dropped.get(map_id, ()):
            return None
        # shielded: a worker that goes away must not cancel the place for the next one
        return await asyncio.shield(self._place(map_id, number))

    async def drop(self, map_id: str, numbers: Sequence[int]) -> None:
        """Their results have arrived."""
        self._dropped.setdefault(map_id, set()).update(numbers)
        for number in numbers:
            self._rows.get(map_id, {}).pop(number, None)

    async def end(self, map_id: str, count: int) -> None:
        """There are no rows from number `count` on."""
        self._ends[map_id] = min(count, self._ends.get(map_id, count))
        places = self._rows.get(map_id, {})
        for number in [n for n in places if n >= count]:
            place = places.pop(number)
            if not place.done():
                place.set_result(None)

    async def forget(self, map_id: str) -> None:
        """The map is over."""
        await self.end(map_id, 0)
        self._dropped.pop(map_id, None)

    def _place(self, map_id: str, number: int) -> "asyncio.Future[bytes | None]":
        places = self._rows.setdefault(map_id, {})
        return places.setdefault(number, asyncio.get_running_loop().create_future())


class Feeder:
    """The driver's side of one map: one thread reads rows, another takes results."""

    def __init__(self, feed: Any, map_id: str, rows: Iterable[Any], ahead: int, together: int = 1) -> None:
        """`ahead`: most rows that are read and not finished; `together`: most that are sent in one message."""
        self._feed, self.map_id, self._rows = feed, map_id, iter(rows)
        self.count = min(MOST_PER_PIPELINE, max(1, length_hint(rows, MOST_PER_PIPELINE)))
        """Numbers that a pipeline should have."""
        self._ahead, self._together = ahead, together
        self._unsent: list[bytes] = []
        self._sent_at = time.monotonic()
        self._read, self._ended, self._finished = 0, False, set[int]()
        self.closed = False
        """Nobody wants results any more."""
        self._changed = threading.Condition()

    def run(self) -> None:
        """Read rows until they end or the feeder is closed. Raises what the rows raise."""
        try:
            while self._may_read() and (row := next(self._rows, None)) is not None:
                self._unsent.append(pickle.dumps(row))
                with self._changed:
                    self._read += 1
                    self._changed.notify_all()
                if len(self._unsent) >= self._together or time.monotonic() - self._sent_at > _HELD_S:
                    self._send()
        finally:
            self._send()
            self._end()

    def _send(self) -> None:
        if self._unsent:
            self._feed.put.remote(self.map_id, self._read - len(self._unsent), self._unsent)
            self._unsent = []
        self._sent_at = time.monotonic()

    def close(self) -> None:
        """Read no more rows, and take no more results."""
        self.closed = True
        self._end()
        self._feed.forget.remote(self.map_id)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._feed.end.remote(self.map_id, self._read)

    def pipelines(self) -> Iterator[range]:
        """Give the numbers of one pipeline after the other, as long as there are rows for them."""
        start = 0
        while self._reaches(start):
            yield range(start, start + self.count)
            start += self.count

    def finish(self, numbers: Sequence[int]) -> None:
        """Note results, which makes room for other rows."""
        with self._changed:
            self._finished.update(numbers)
            self._changed.notify_all()
        self._feed.drop.remote(self.map_id, numbers)

    def done(self) -> bool:
        """Whether all rows are read and finished."""
        with self._changed:
            return self._ended and len(self._finished) >= self._read

    def _may_read(self) -> bool:
        if not self._has_room():
            self._send()
        with self._changed:
            self._changed.wait_for(self._has_room)
            return not self._ended

    def _has_room(self) -> bool:
        return self._ended or self._read - len(self._finished) < self._ahead

    def _reaches(self, number: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._read > number)
            return self._read > number
