import asyncio
import time

import pytest

from dpe_ray.errors import ClusterError, ConfigError, ModelUnavailable, PoolError
from dpe_ray.ports import MapSpec
from dpe_ray.runtime.data_map import DataMapper


def doubling(factor):
    async def work(row):
        await asyncio.sleep(0.01)
        return {"id": row["id"], "value": factor * row["id"]}

    return work


def failing(error):
    async def work(row):
        raise error

    return work


def refusing(error):
    raise error


def spec(factory, config):
    return MapSpec(factory, config, workers=(1, 2), concurrency=16, name="test map")


async def test_every_row_comes_back_once_with_its_types(ray_session):
    rows = [row async for row in DataMapper(0.1).map(spec(doubling, 3), [{"id": i} for i in range(200)])]
    assert sorted(row["value"] for row in rows) == [3 * i for i in range(200)]


async def test_no_rows_start_nothing(ray_session):
    assert [row async for row in DataMapper(0.1).map(spec(doubling, 3), [])] == []


async def test_fewer_rows_than_workers_start_no_idle_one(ray_session, recwarn):
    few = MapSpec(doubling, 3, workers=(3, 3), concurrency=4, name="test map")
    assert [row["value"] async for row in DataMapper(0.1).map(few, [{"id": 2}])] == [6]
    assert [str(w.message) for w in recwarn if "concurrent actors" in str(w.message)] == []


async def test_closing_the_iterator_ends_the_pipeline(ray_session):
    results = DataMapper(0.1).map(spec(doubling, 1), [{"id": i} for i in range(5000)])
    seen = 0
    async for _ in results:
        seen += 1
        if seen == 20:
            break
    await asyncio.wait_for(results.aclose(), 30)
    assert seen == 20


async def test_rows_are_read_only_so_far_ahead_of_what_is_finished(ray_session):
    read = []

    def rows():
        for i in range(100_000):
            read.append(i)
            yield {"id": i}

    results = DataMapper(0.1).map(spec(doubling, 1), rows())
    seen = 0
    async for _ in results:
        seen += 1
        if seen == 20:
            break
    await results.aclose()
    assert len(read) <= 20 + 2 * 2 * 12 * 4 + 40, "two workers hold 12 batches of 4 each, and as many wait"


async def test_rows_that_cannot_be_read_raise_their_own_error(ray_session):
    def rows():
        yield {"id": 1}
        raise PoolError("no readable image")

    with pytest.raises(PoolError, match="no readable image"):
        [row async for row in DataMapper(0.1).map(spec(doubling, 1), rows())]


class Understated(list):
    """More rows than it says."""

    def __len__(self):
        return 8


async def test_more_rows_than_a_pipeline_takes_go_through_several(ray_session):
    mapped = DataMapper(0.1).map(spec(doubling, 3), Understated({"id": i} for i in range(20)))
    rows = [row async for row in mapped]
    assert sorted(row["value"] for row in rows) == [3 * i for i in range(20)]


def dawdling(marker):
    async def work(row):
        marker.touch()
        await asyncio.sleep(15)
        return row

    return work


async def test_an_interrupt_does_not_wait_for_slow_rows(ray_session, tmp_path):
    rows = DataMapper(0.1).map(spec(dawdling, tmp_path / "started"), [{"id": 1}])
    waiting = asyncio.create_task(anext(rows))
    while not (tmp_path / "started").exists():
        await asyncio.sleep(0.05)
    start = time.monotonic()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert time.monotonic() - start < 2


async def test_a_workers_own_error_is_raised_as_itself(ray_session):
    with pytest.raises(ModelUnavailable, match="teacher is down"):
        [row async for row in DataMapper(0.1).map(spec(failing, ModelUnavailable("teacher is down")), [{"id": 1}])]


async def test_what_a_worker_needs_and_lacks_is_told_in_the_words_of_its_own_error(ray_session):
    lacking = ConfigError("models.teacher: $KEY is empty; set it where the workers run")
    with pytest.raises(ConfigError, match=r"^models.teacher: \$KEY is empty"):
        [row async for row in DataMapper(0.1).map(spec(refusing, lacking), [{"id": i} for i in range(40)])]


async def test_a_broken_worker_is_one_line_that_names_the_map(ray_session):
    with pytest.raises(ClusterError, match="test map: a worker broke"):
        [row async for row in DataMapper(0.1).map(spec(failing, ZeroDivisionError("oops")), [{"id": 1}])]
