import asyncio
import pickle
import threading
import time

import pytest

from dpe_ray.errors import PoolError
from dpe_ray.runtime.row_feed import Feeder, RowFeed


async def test_a_row_is_waited_for_and_given_again_until_it_is_dropped():
    feed = RowFeed()
    waiting = asyncio.create_task(feed.get("m", [0]))
    await asyncio.sleep(0)
    await feed.put("m", 0, [b"row"])
    assert (await waiting, await feed.get("m", [0])) == ([b"row"], [b"row"])
    await feed.drop("m", [0])
    assert await feed.get("m", [0]) == [None]


async def test_a_worker_that_goes_away_leaves_the_row_to_the_next():
    feed = RowFeed()
    lost = asyncio.create_task(feed.get("m", [0]))
    await asyncio.sleep(0)
    lost.cancel()
    again = asyncio.create_task(feed.get("m", [0]))
    await asyncio.sleep(0)
    await feed.put("m", 0, [b"row"])
    assert await again == [b"row"]


async def test_behind_the_last_row_nobody_waits():
    feed = RowFeed()
    early = asyncio.create_task(feed.get("m", [1]))
    await asyncio.sleep(0)
    await feed.put("m", 0, [b"row"])
    await feed.end("m", 1)
    assert (await early, await feed.get("m", [7]), await feed.get("m", [0])) == ([None], [None], [b"row"])
    await feed.forget("m")
    assert await feed.get("m", [0]) == [None]


class Method:
    def __init__(self, note):
        self.remote = note


class Actor:
    """Notes what is put."""

    def __init__(self):
        self.rows = []
        self.sent = []
        self.put = Method(self._put)
        self.end = self.drop = self.forget = Method(lambda *arguments: None)

    def _put(self, map_id, first, rows):
        self.sent.append(len(rows))
        self.rows += [(number, pickle.loads(row)) for number, row in enumerate(rows, first)]


def started(rows, ahead, together=1):
    actor = Actor()
    feeder = Feeder(actor, "m", rows, ahead, together)
    thread = threading.Thread(target=feeder.run, daemon=True)
    thread.start()
    return actor, feeder, thread


def test_reading_stays_so_far_ahead_of_results():
    read = []
    actor, feeder, thread = started((read.append(i) or i for i in range(10)), ahead=3)
    next(feeder.pipelines())
    thread.join(0.2)
    assert read == [0, 1, 2]
    feeder.finish([1])
    feeder.finish([1])
    thread.join(0.2)
    assert read == [0, 1, 2, 3], "a result that comes twice makes room once"
    feeder.close()
    thread.join(5)
    assert not thread.is_alive()
    assert actor.rows == [(i, i) for i in range(4)]


def test_rows_of_a_quick_source_go_together_and_none_is_held_back_where_reading_waits():
    actor, feeder, thread = started(iter(range(100)), ahead=10, together=4)
    next(feeder.pipelines())
    thread.join(0.2)
    assert [number for number, _ in actor.rows] == list(range(10))
    assert max(actor.sent) <= 4
    assert len(actor.sent) < 10
    feeder.close()
    thread.join(5)


def test_a_row_of_a_slow_source_does_not_wait_for_the_next():
    def rows():
        for number in range(2):
            time.sleep(0.05)
            yield number
        never.wait()

    never = threading.Event()
    actor, _, _ = started(rows(), ahead=10, together=4)
    time.sleep(0.4)
    assert actor.sent == [1, 1]
    never.set()


async def test_rows_that_come_after_their_map_is_over_are_not_kept():
    feed = RowFeed()
    await feed.forget("m")
    await feed.put("m", 0, [b"row"])
    assert await feed.get("m", [0]) == [None]
    assert not feed._rows.get("m")


def test_pipelines_go_on_until_the_rows_end():
    _, feeder, thread = started([1, 2, 3], ahead=9)
    feeder.count = 2
    numbers = []
    for part in feeder.pipelines():
        numbers.append(part)
        for number in part:
            feeder.finish([number])
    thread.join(5)
    assert numbers == [range(0, 2), range(2, 4)]
    assert feeder.done()


def test_no_rows_make_no_pipeline():
    _, feeder, _ = started([], ahead=9)
    assert list(feeder.pipelines()) == []


def test_rows_that_break_end_the_feed_and_raise():
    def rows():
        yield 1
        raise PoolError("gone")

    feeder = Feeder(Actor(), "m", rows(), 9)
    with pytest.raises(PoolError):
        feeder.run()
    assert [part.start for part in feeder.pipelines()] == [0]
