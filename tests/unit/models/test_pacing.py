import asyncio

import pytest

from dpe_ray.models import pacing
from dpe_ray.models.pacing import DOWN_AFTER_FAILURES, DOWN_AFTER_S, STALL_S, Breaker, Places, StallWatch


class FakeClock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


async def most_at_once(places, calls):
    running, most = 0, 0

    async def call():
        nonlocal running, most
        async with places:
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*[call() for _ in range(calls)])
    return most


async def test_no_more_calls_are_in_flight_than_there_are_places(clock):
    assert await most_at_once(Places(5, clock), 40) == 5


async def test_a_refusal_takes_places_away_and_successes_bring_them_back_one_by_one(clock):
    places = Places(10, clock)
    places.shrink(clock.now)
    assert await most_at_once(places, 40) == places.limit == 7
    for _ in range(pacing.GROW_AFTER):
        places.grow()
    assert await most_at_once(places, 40) == places.limit == 8
    for _ in range(100):
        places.grow()
    assert places.limit == 10


def test_refusals_of_calls_that_were_under_way_together_count_once(clock):
    places, began = Places(64, clock), clock.now
    clock.now += 1
    for _ in range(20):
        places.shrink(began)
    assert places.limit == 44
    clock.now += 1
    places.shrink(clock.now)
    assert places.limit == 31


def test_a_place_is_always_left(clock):
    places = Places(3, clock)
    for _ in range(50):
        clock.now += 1
        places.shrink(clock.now)
    assert places.limit == 1


def test_two_percent_of_stray_refusals_leave_most_places(clock):
    places, seen = Places(32, clock), []
    for call in range(10_000):
        clock.now += 1
        if call % 50 == 0:
            places.shrink(clock.now)
        else:
            places.grow()
        seen.append(places.limit)
    assert 16 <= sum(seen) / len(seen) <= 28


async def test_who_waits_is_let_in_when_places_grow_again(clock):
    places = Places(8, clock)
    for _ in range(9):
        clock.now += 1
        places.shrink(clock.now)

    async def call():
        async with places:
            await asyncio.sleep(0.001)
        places.grow()

    await asyncio.wait_for(asyncio.gather(*[call() for _ in range(200)]), 5)
    assert places.limit == 8


async def test_a_caller_that_is_cancelled_leaves_its_place_to_others(clock):
    places = Places(1, clock)
    async with places:
        waiting = [asyncio.create_task(most_at_once(places, 1)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    assert await asyncio.wait_for(waiting[1], 1) == 1


def fail(breaker, times):
    for _ in range(times):
        breaker.failed()


def test_only_an_endpoint_that_fails_everything_for_long_is_down(clock):
    breaker = Breaker(clock)
    fail(breaker, 5 * DOWN_AFTER_FAILURES)
    clock.now += DOWN_AFTER_S - 1
    assert not breaker.is_open, "it may come back soon"
    clock.now += 1
    assert breaker.is_open
    breaker.succeeded()
    fail(breaker, 5 * DOWN_AFTER_FAILURES)
    assert not breaker.is_open, "one success begins anew"


def test_a_few_failures_long_apart_are_no_end(clock):
    breaker = Breaker(clock)
    for _ in range(DOWN_AFTER_FAILURES - 1):
        breaker.failed()
        clock.now += DOWN_AFTER_S
    assert not breaker.is_open


def test_failures_are_repeated_when_nothing_succeeds_between(clock):
    breaker = Breaker(clock)
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.is_repeated
    fail(breaker, 1)
    assert breaker.is_repeated


async def test_a_role_that_hangs_is_told_and_one_that_moves_is_not(clock):
    told = []
    watch = StallWatch(lambda *what: told.append(what), clock)
    with watch.watching("planner"), watch.watching("solver"):
        with watch.watching("solver"):
            clock.now += STALL_S - 1
        watch.check()
        assert told == []
        clock.now += 1
        watch.check()
        assert told == [("planner", 1, STALL_S)]
    clock.now += STALL_S
    watch.check()
    assert len(told) == 1, "nothing is in flight"


async def test_a_role_that_begins_anew_has_its_full_time(clock):
    told = []
    watch = StallWatch(lambda *what: told.append(what), clock)
    with watch.watching("planner"):
        clock.now += 1
    clock.now += 10 * STALL_S
    with watch.watching("planner"):
        watch.check()
    assert told == []


async def test_a_stall_is_told_by_itself(monkeypatch):
    monkeypatch.setattr(pacing, "STALL_S", 0.05)
    told = []
    watch = StallWatch(lambda role, calls, _: told.append((role, calls)))
    with watch.watching("planner"):
        await asyncio.sleep(0.3)
    assert ("planner", 1) in told
