from dpe_ray.supply.quota_book import Quotas


async def place(book, cell, slot):
    """Begin a slot and reserve, as a worker does."""
    return bool(await book.begin(slot)) and await book.reserve(cell, slot)


async def fill(book, cell, slot, key="", calls=1):
    """Run a slot to its end: what keeps its sample out, or nothing."""
    assert await place(book, cell, slot)
    return await book.commit(slot, key or f"sample {slot}", calls)


async def test_a_cell_closes_when_its_quota_is_committed():
    book = Quotas({"a/x": 1, "b/y": 2}, 4, 100)
    assert await book.begin(0) == ("a/x", "b/y")
    assert await book.reserve("a/x", 0)
    assert not await book.commit(0, "sample", 3)
    assert await book.begin(1) == ("b/y",)
    assert not await book.reserve("a/x", 1)


async def test_a_sample_that_comes_after_the_quota_is_refused():
    book = Quotas({"a/x": 1}, 4, 100)
    assert await place(book, "a/x", 0)
    assert not await fill(book, "a/x", 1)
    assert await book.commit(0, "late", 3) == "quota"
    assert (await book.state()).accepted == {"a/x": 1}


async def test_the_same_sample_of_another_slot_fills_no_quota():
    book = Quotas({"a/x": 2}, 4, 100)
    assert not await fill(book, "a/x", 0, "the same")
    assert await fill(book, "a/x", 1, "the same") == "duplicate"
    state = await book.state()
    assert (state.accepted, state.closed_by) == ({"a/x": 1}, "")


async def test_a_cell_is_exhausted_after_quota_times_cap_reservations():
    book = Quotas({"a/x": 2, "b/y": 1}, 1.5, 100)
    for slot in range(3):
        assert await place(book, "a/x", slot)
        await book.release(slot, 1)
    assert not await place(book, "a/x", 3)
    assert await book.begin(3) == ("b/y",)
    for slot in (4, 5):
        await place(book, "b/y", slot)
        await book.release(slot, 1)
    assert (await book.state()).closed_by == "exhausted"


async def test_the_budget_closes_the_book_when_it_might_not_let_another_slot_end():
    book = Quotas({"a/x": 5}, 4, 12)
    for slot in range(3):
        assert await place(book, "a/x", slot)
    assert not (await book.state()).closed_by
    assert await book.begin(3) == (), "three slots under way may want all 12"
    for slot in range(3):
        await book.release(slot, 1)
    assert (await book.state()).closed_by == "budget", "a reader may have seen it closed"
    assert await book.begin(4) == ()


async def test_slots_that_end_cheaply_leave_room_for_more():
    book = Quotas({"a/x": 5}, 9, 12)
    for slot in range(9):
        assert await place(book, "a/x", slot)
        await book.release(slot, 1)
    assert await book.begin(9) == (), "9 and 4 are more than 12"
    assert (await book.state()).closed_by == "budget"


async def test_looking_at_the_book_changes_nothing():
    looked, untouched = (Quotas({"a/x": 2}, 4, 8) for _ in range(2))
    for book in (looked, untouched):
        await book.begin(0)
        if book is looked:
            assert await book.state() == await book.state()
    assert await looked.begin(1) == await untouched.begin(1) == ("a/x",)


async def test_a_book_that_was_told_to_close_stays_closed():
    book = Quotas({"a/x": 5}, 4, 100)
    await book.close()
    assert await book.begin(0) == ()
    assert (await book.state()).closed_by == "budget"


async def test_supply_is_not_over_while_a_slot_in_flight_can_still_be_committed():
    book = Quotas({"a/x": 2}, 4, 8)
    assert await book.begin(0)
    await fill(book, "a/x", 1, calls=4)
    assert await book.begin(2) == ()
    state = await book.state()
    assert (state.closed_by, state.over) == ("budget", False)
    assert await book.reserve("a/x", 0)
    assert not (await book.state()).over
    assert not await book.commit(0, "sample", 4)
    assert (await book.state()).over


async def test_full_quotas_end_supply_whatever_is_in_flight():
    book = Quotas({"a/x": 1}, 4, 100)
    await place(book, "a/x", 0)
    await fill(book, "a/x", 1)
    state = await book.state()
    assert (state.closed_by, state.over) == ("quota", True)


async def test_a_slot_that_runs_again_is_offered_the_same_cells():
    book = Quotas({"a/x": 1, "b/y": 1}, 4, 100)
    assert not await fill(book, "a/x", 0)
    assert not await fill(book, "b/y", 1)
    assert await book.begin(2) == ()
    assert [await book.begin(slot) for slot in range(3)] == [("a/x", "b/y"), ("b/y",), ()]


async def test_a_slot_that_runs_again_after_its_commit_keeps_its_place_and_counts_once():
    book = Quotas({"a/x": 1, "b/y": 1}, 1, 100)
    for calls in (4, 3):
        assert not await fill(book, "a/x", 0, calls=calls)
    assert not await book.reserve("b/y", 0), "a slot has one place"
    state = await book.state()
    assert (state.accepted, state.slots, state.calls) == ({"a/x": 1, "b/y": 0}, {"a/x": 1, "b/y": 0}, 4)


async def test_what_a_slot_committed_stays_when_another_run_of_it_fails():
    book = Quotas({"a/x": 1}, 4, 100)
    await fill(book, "a/x", 0)
    await book.begin(0)
    await book.release(0, 2)
    state = await book.state()
    assert (state.accepted, state.closed_by, state.over) == ({"a/x": 1}, "quota", True)


async def test_a_cell_of_no_quota_is_never_open():
    book = Quotas({"a/x": 0}, 4, 100)
    assert await book.begin(0) == ()
    assert not await book.reserve("unknown/cell", 0)
    assert (await book.state()).closed_by == "quota"
