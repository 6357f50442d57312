"""Rows on their way to the workers: read one by one, only so far ahead of what is finished.

A pipeline carries numbers; a worker fetches the row of a number from the feed. So the source is never read as a whole,
and a worker that is lost loses no row: whoever runs its numbers again fetches the same rows.
"""

import asyncio
import pickle
import threading
from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import Any

MOST_PER_PIPELINE = 16_384
"""Numbers of one pipeline; more rows than this take several, one after the other."""


class RowFeed:
    """The rows of all maps of a run that are under way, by map and number. Lives in an actor."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, asyncio.Future[bytes | None]]] = {}
        self._ends: dict[str, int] = {}
        self._dropped: dict[str, set[int]] = {}

    async def put(self, map_id: str, number: int, row: bytes) -> None:
        """The next row was read."""
        self._place(map_id, number).set_result(row)

    async def get(self, map_id: str, number: int) -> bytes | None:
        """Wait for a row; None behind the last, and for one whose result nobody waits for."""
        if number >= self._ends.get(map_id, number + 1) or number in self._dropped.get(map_id, ()):
            return None
        # shielded: a worker that goes away must not cancel the place for the next one
        return await asyncio.shield(self._place(map_id, number))

    async def drop(self, map_id: str, number: int) -> None:
        """Its result has arrived."""
        self._dropped.setdefault(map_id, set()).add(number)
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

    def __init__(self, feed: Any, map_id: str, rows: Iterable[Any], ahead: int) -> None:
        """`ahead`: most rows that are read and not finished."""
        self._feed, self.map_id, self._rows = feed, map_id, iter(rows)
        self.count = min(MOST_PER_PIPELINE, max(1, length_hint(rows, MOST_PER_PIPELINE)))
        """Numbers that a pipeline should have."""
        self._ahead = ahead
        self._read, self._ended, self._finished = 0, False, set[int]()
        self.closed = False
        """Nobody wants results any more."""
        self._changed = threading.Condition()

    def run(self) -> None:
        """Read rows until they end or the feeder is closed. Raises what the rows raise."""
        try:
            while self._may_read() and (row := next(self._rows, None)) is not None:
                self._feed.put.remote(self.map_id, self._read, pickle.dumps(row))
                with self._changed:
                    self._read += 1
                    self._changed.notify_all()
        finally:
            self._end()

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

    def finish(self, number: int) -> None:
        """Note a result, which makes room for another row."""
        with self._changed:
            self._finished.add(number)
            self._changed.notify_all()
        self._feed.drop.remote(self.map_id, number)

    def done(self) -> bool:
        """Whether all rows are read and finished."""
        with self._changed:
            return self._ended and len(self._finished) >= self._read

    def _may_read(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._read - len(self._finished) < self._ahead)
            return not self._ended

    def _reaches(self, number: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._read > number)
            return self._read > number
