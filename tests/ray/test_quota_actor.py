import asyncio

import pytest
import ray

from dpe_ray.errors import ClusterError
from dpe_ray.ports import Limits
from dpe_ray.runtime.quota_actor import start_book, start_calls


async def test_all_ask_one_owner(ray_session):
    book = start_book({"map/x": 1}, 4.0, 100, 4)
    assert await book.reserve("map/x", 0)
    assert not await book.commit(0, "sample", 3)
    state = await book.state()
    assert (state.accepted, state.calls, state.closed_by) == ({"map/x": 1}, 3, "quota")


async def reserve_on(book):
    """Until it fails: a kill takes effect when the actor's process has heard of it."""
    while True:
        await book.reserve("map/x", 0)


async def test_a_lost_owner_is_a_cluster_error_that_names_it(ray_session):
    book = start_book({"map/x": 1}, 4.0, 100, 4)
    assert await book.begin(0)
    ray.kill(book.actor)
    with pytest.raises(ClusterError, match=r"quota book .* lost .* resume the run") as caught:
        await asyncio.wait_for(reserve_on(book), 30)
    assert "\n" not in str(caught.value)


async def test_all_spend_one_budget(ray_session):
    calls = start_calls()
    await calls.allow({"": Limits(calls=2, usd=1.0), "validator": Limits(tokens=5)})
    taken, _, last = [await calls.take("planner") for _ in range(3)]
    assert (taken.refused, taken.metered, last.refused) == ("", True, "budget.teacher_calls")
    await calls.give_back("planner", taken.allowance)
    taken = await calls.take("validator")
    await calls.spend("validator", taken.allowance, 5, 0.5)
    await calls.give_back("planner", taken.allowance)
    assert (await calls.take("validator")).refused == "budget.roles.validator.tokens"
