from dpe_ray.supply.quota_book import Quotas


async def place(book, cell, slot):
    """Begin a slot and reserve, as a worker does."""
    return bool(await book.begin(slot)) and await book.reserve(cell, slot)


async def test_a_cell_closes_when_its_quota_is_committed():
    book = Quotas({"a/x": 1, "b/y": 2}, 4, 100)
    assert await book.begin(0) == {"a/x": 1, "b/y": 2}
    assert await book.reserve("a/x", 0)
    assert await book.commit("a/x", 0, 3)
    assert await book.begin(1) == {"b/y": 2}
    assert not await book.reserve("a/x", 1)


async def test_a_sample_that_comes_after_the_quota_is_refused():
    book = Quotas({"a/x": 1}, 4, 100)
    assert await place(book, "a/x", 0)
    assert await place(book, "a/x", 1)
    assert await book.commit("a/x", 1, 3)
    assert not await book.commit("a/x", 0, 3)
    assert (await book.state()).accepted == {"a/x": 1}


async def test_a_cell_is_exhausted_after_quota_times_cap_reservations():
    book = Quotas({"a/x": 2, "b/y": 1}, 1.5, 100)
    for slot in range(3):
        assert await place(book, "a/x", slot)
        await book.release("a/x", slot, 1)
    assert not await place(book, "a/x", 3)
    assert await book.begin(3) == {"b/y": 1}
    for slot in (4, 5):
        await place(book, "b/y", slot)
        await book.release("b/y", slot, 1)
    assert (await book.state()).closed_by == "exhausted"


async def test_no_slot_begins_that_the_budget_would_not_pay_for():
    book = Quotas({"a/x": 5}, 4, 12)
    await book.release("", 0, 5)
    assert await place(book, "a/x", 1)
    assert await book.begin(2) == {}, "5 are spent and 4 are expected of slot 1"
    await book.release("a/x", 1, 1)
    assert await book.begin(3) == {}, "a closed book stays closed"
    state = await book.state()
    assert (state.closed_by, state.calls, state.over) == ("budget", 6, True)


async def test_supply_is_not_over_while_a_slot_in_flight_can_still_be_committed():
    book = Quotas({"a/x": 2}, 4, 7)
    assert await book.begin(0)
    state = await book.state()
    assert (state.closed_by, state.over) == ("budget", False)
    assert await book.reserve("a/x", 0)
    assert not (await book.state()).over
    assert await book.commit("a/x", 0, 4)
    assert (await book.state()).over


async def test_full_quotas_end_supply_whatever_is_in_flight():
    book = Quotas({"a/x": 1}, 4, 100)
    await place(book, "a/x", 0)
    await place(book, "a/x", 1)
    await book.commit("a/x", 0, 1)
    state = await book.state()
    assert (state.closed_by, state.over) == ("quota", True)


async def test_a_slot_that_runs_twice_counts_once():
    book = Quotas({"a/x": 2}, 1, 100)
    for calls in (4, 3):
        assert await place(book, "a/x", 0)
        assert await book.commit("a/x", 0, calls)
    state = await book.state()
    assert (state.accepted, state.slots, state.calls) == ({"a/x": 1}, {"a/x": 1}, 4)


async def test_a_cell_of_no_quota_is_never_open():
    book = Quotas({"a/x": 0}, 4, 100)
    assert await book.begin(0) == {}
    assert not await book.reserve("unknown/cell", 0)
    assert (await book.state()).closed_by == "quota"
