import asyncio

import pytest

from dpe_ray.ports import MapSpec
from dpe_ray.rounds.local import LocalMapper


def doubling(config):
    async def work(row):
        config["running"] += 1
        config["most"] = max(config["most"], config["running"])
        await asyncio.sleep(0.001)
        config["running"] -= 1
        return {"id": row["id"], "value": 2 * row["id"]}

    return work


async def test_every_row_comes_back_once_under_the_bound():
    state = {"running": 0, "most": 0}
    spec = MapSpec(doubling, state, concurrency=7)
    rows = [row async for row in LocalMapper().map(spec, ({"id": i} for i in range(100)))]
    assert sorted(row["value"] for row in rows) == [2 * i for i in range(100)]
    assert 1 < state["most"] <= 7


async def test_rows_are_taken_only_as_places_get_free():
    taken = []

    def rows():
        for i in range(1000):
            taken.append(i)
            yield {"id": i}

    results = LocalMapper().map(MapSpec(doubling, {"running": 0, "most": 0}, concurrency=4), rows())
    async for _ in results:
        break
    await results.aclose()
    assert len(taken) <= 12


def failing(config):
    async def work(row):
        raise ValueError("broken row")

    return work


async def test_an_error_of_the_function_reaches_the_caller():
    with pytest.raises(ValueError, match="broken row"):
        [row async for row in LocalMapper().map(MapSpec(failing, None), [{"id": 1}])]
