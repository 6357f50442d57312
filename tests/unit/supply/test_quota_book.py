from dpe_ray.supply.quota_book import Quotas


async def test_a_cell_closes_when_its_quota_is_committed():
    book = Quotas({"a/x": 1, "b/y": 2}, 4, 100)
    assert await book.open_cells() == {"a/x": 1, "b/y": 2}
    assert await book.reserve("a/x", 0)
    assert await book.commit("a/x", 0, 3)
    assert await book.open_cells() == {"b/y": 2}
    assert not await book.reserve("a/x", 1)


async def test_a_sample_that_comes_after_the_quota_is_refused():
    book = Quotas({"a/x": 1}, 4, 100)
    assert await book.reserve("a/x", 0)
    assert await book.reserve("a/x", 1)
    assert await book.commit("a/x", 1, 3)
    assert not await book.commit("a/x", 0, 3)
    assert (await book.state()).accepted == {"a/x": 1}


async def test_a_cell_is_exhausted_after_quota_times_cap_reservations():
    book = Quotas({"a/x": 2, "b/y": 1}, 1.5, 100)
    for slot in range(3):
        assert await book.reserve("a/x", slot)
        await book.release("a/x", slot, 1)
    assert not await book.reserve("a/x", 3)
    assert await book.open_cells() == {"b/y": 1}
    for slot in (4, 5):
        await book.reserve("b/y", slot)
        await book.release("b/y", slot, 1)
    assert (await book.state()).closed_by == "exhausted"


async def test_nothing_opens_once_the_budget_is_spent():
    book = Quotas({"a/x": 5}, 4, 10)
    await book.release("", 0, 9)
    assert await book.reserve("a/x", 1)
    await book.release("a/x", 1, 1)
    assert await book.open_cells() == {}
    assert not await book.reserve("a/x", 2)
    state = await book.state()
    assert (state.closed_by, state.calls, state.over) == ("budget", 10, True)


async def test_supply_is_not_over_while_a_slot_in_flight_can_still_be_committed():
    book = Quotas({"a/x": 2}, 4, 5)
    await book.reserve("a/x", 0)
    await book.release("", 1, 5)
    state = await book.state()
    assert (state.closed_by, state.over) == ("budget", False)
    assert await book.commit("a/x", 0, 4)
    assert (await book.state()).over


async def test_full_quotas_end_supply_whatever_is_in_flight():
    book = Quotas({"a/x": 1}, 4, 100)
    await book.reserve("a/x", 0)
    await book.reserve("a/x", 1)
    await book.commit("a/x", 0, 1)
    state = await book.state()
    assert (state.closed_by, state.over) == ("quota", True)


async def test_a_slot_that_runs_twice_counts_once():
    book = Quotas({"a/x": 2}, 1, 100)
    for calls in (4, 0):
        assert await book.reserve("a/x", 0)
        assert await book.commit("a/x", 0, calls)
    state = await book.state()
    assert (state.accepted, state.slots, state.calls) == ({"a/x": 1}, {"a/x": 1}, 4)


async def test_a_cell_of_no_quota_is_never_open():
    book = Quotas({"a/x": 0}, 4, 100)
    assert await book.open_cells() == {}
    assert not await book.reserve("unknown/cell", 0)
    assert (await book.state()).closed_by == "quota"
