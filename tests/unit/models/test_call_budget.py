"""What a budget refuses, and what it counts. Every call of the fake takes 10 prompt and 5 completion tokens."""

import asyncio
import pickle

import pytest
from builders import FakeChat, make_image_ref

from dpe_ray.errors import BadRequest, BudgetExceeded, ModelUnavailable
from dpe_ray.models.call_budget import BoundedAsker, Calls
from dpe_ray.models.journal import Call, Journal, JournaledChat
from dpe_ray.models.price import Price
from dpe_ray.ports import ChatRequest, Limits, Message, Taken

A_CENT_A_TOKEN = Price(input=1e4, output=1e4)


class Asked(FakeChat):
    async def ask(self, request, call):
        return await self.chat(request)


def request(text, role="planner", images=()):
    return ChatRequest((Message("user", text, tuple(images)),), role, "item", f"{role}@1")


def bounded(asked, calls, folder):
    return JournaledChat(BoundedAsker(asked, calls, Price()), Journal(folder, "teacher"), "teacher", "model")


async def asked_until_refused(calls, role="planner", price=A_CENT_A_TOKEN, images=()):
    """(calls made, key of the limit that refused the next)."""
    asker = BoundedAsker(asked := Asked(lambda r: "yes"), calls, price)
    try:
        for number in range(100):
            await asker.ask(request(str(number), role, images), Call())
    except BudgetExceeded as refused:
        key, _, why = str(refused).partition(": ")
        assert why == "all that the run may spend is spent"
        return len(asked.requests), key
    raise AssertionError("nothing was refused")


async def is_refused(calls, role="planner"):
    return bool((await calls.take(role)).refused)


async def test_a_call_beyond_the_budget_is_refused_before_it_is_made(tmp_path):
    asked, calls = Asked(lambda r: "yes"), Calls()
    await calls.allow({"": Limits(calls=2)})
    chat = bounded(asked, calls, tmp_path)
    await chat.chat(request("one"))
    await chat.chat(request("two"))
    with pytest.raises(BudgetExceeded):
        await chat.chat(request("three"))
    assert len(asked.requests) == 2


@pytest.mark.parametrize(
    ("limits", "made", "key"),
    [
        ({"": Limits(calls=2)}, 2, "budget.teacher_calls"),
        ({"": Limits(tokens=30)}, 2, "budget.tokens"),
        ({"": Limits(tokens=31)}, 3, "budget.tokens"),
        ({"": Limits(usd=0.29)}, 2, "budget.usd"),
        ({"": Limits(calls=9), "planner": Limits(calls=2)}, 2, "budget.roles.planner.calls"),
        ({"": Limits(calls=9), "planner": Limits(tokens=16)}, 2, "budget.roles.planner.tokens"),
        ({"planner": Limits(usd=0.16)}, 2, "budget.roles.planner.usd"),
        ({"": Limits(usd=0.16), "planner": Limits(calls=3)}, 2, "budget.usd"),
    ],
)
async def test_the_first_limit_that_is_spent_refuses_and_is_named(limits, made, key):
    calls = Calls()
    await calls.allow(limits)
    assert await asked_until_refused(calls) == (made, key)


async def test_images_have_their_price():
    calls = Calls()
    await calls.allow({"": Limits(usd=3.5)})
    images = [make_image_ref("a"), make_image_ref("b")]
    assert await asked_until_refused(calls, price=Price(image=500.0), images=images) == (4, "budget.usd")


async def test_a_limit_of_a_role_counts_that_role_alone():
    calls = Calls()
    await calls.allow({"": Limits(calls=9), "validator": Limits(calls=1)})
    for _ in range(5):
        assert not await is_refused(calls, "planner")
    assert await asked_until_refused(calls, "validator") == (1, "budget.roles.validator.calls")


async def test_when_one_role_is_refused_no_other_is_paid_for_what_cannot_be_finished():
    calls = Calls()
    await calls.allow({"validator": Limits(calls=1)})
    taken = await calls.take("validator")
    assert await is_refused(calls, "validator")
    assert (await calls.take("planner")).refused == "budget.roles.validator.calls"
    await calls.give_back("validator", taken.allowance)
    assert not await is_refused(calls, "planner")
    assert not await is_refused(calls, "validator")
    assert await is_refused(calls, "validator")
    await calls.allow({"validator": Limits(calls=0)})
    assert not await is_refused(calls, "planner"), "another stage may do without"


async def test_the_pictures_that_the_judge_describes_are_the_judges_calls():
    calls = Calls()
    await calls.allow({"judge": Limits(calls=2)})
    assert await asked_until_refused(calls, "observer") == (2, "budget.roles.judge.calls")


async def test_only_limits_of_tokens_and_money_ask_for_what_an_answer_took():
    calls = Calls()
    await calls.allow({"": Limits(calls=9), "validator": Limits(usd=1.0), "judge": Limits(tokens=1)})
    metered = {role: (await calls.take(role)).metered for role in ("planner", "validator", "judge")}
    assert metered == {"planner": False, "validator": True, "judge": True}


async def test_what_the_journal_knows_is_free(tmp_path):
    asked, calls = Asked(lambda r: "yes"), Calls()
    await calls.allow({"": Limits(1, 1, 1e-9)})
    await bounded(asked, calls, tmp_path).chat(request("one"))
    again = await bounded(asked, calls, tmp_path).chat(request("one"))
    assert again.cached


@pytest.mark.parametrize("error", [ModelUnavailable("503"), BadRequest("too long")])
async def test_a_call_without_an_answer_costs_nothing(error):
    calls = Calls()
    await calls.allow({"": Limits(1, 1, 1.0), "planner": Limits(1, 1, 1.0)})
    with pytest.raises(type(error)):
        await BoundedAsker(Asked(lambda r: error), calls, A_CENT_A_TOKEN).ask(request("one"), Call())
    assert not await is_refused(calls)
    assert await is_refused(calls)


async def test_nothing_is_bounded_until_it_is_and_when_it_is_lifted():
    calls = Calls()
    assert not await is_refused(calls)
    await calls.allow({"": Limits(calls=0), "planner": Limits(usd=0.0)})
    assert await is_refused(calls)
    await calls.allow(None)
    assert not await is_refused(calls)


class Held(FakeChat):
    """Answers or fails when it is let go."""

    def __init__(self, script):
        super().__init__(script)
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def ask(self, request, call):
        self.asked.set()
        await self.let_go.wait()
        return await self.chat(request)


@pytest.mark.parametrize("before", [{"": Limits(calls=5)}, None])
async def test_a_call_that_fails_after_the_next_allowance_adds_nothing_to_it(before):
    calls, held = Calls(), Held(lambda r: ModelUnavailable("503"))
    await calls.allow(before)
    under_way = asyncio.create_task(BoundedAsker(held, calls, Price()).ask(request("one"), Call()))
    await held.asked.wait()
    await calls.allow({"": Limits(calls=1)})
    held.let_go.set()
    with pytest.raises(ModelUnavailable):
        await under_way
    assert not await is_refused(calls)
    assert await is_refused(calls), "the new allowance is of one call"


async def test_a_call_that_is_answered_after_the_next_allowance_takes_nothing_from_it():
    calls, held = Calls(), Held(lambda r: "yes")
    await calls.allow({"": Limits(tokens=5)})
    under_way = asyncio.create_task(BoundedAsker(held, calls, Price()).ask(request("one"), Call()))
    await held.asked.wait()
    await calls.allow({"": Limits(tokens=5)})
    held.let_go.set()
    await under_way
    assert not await is_refused(calls)


async def test_limits_are_overshot_by_the_calls_in_flight_and_by_no_other():
    calls, held = Calls(), Held(lambda r: "yes")
    await calls.allow({"": Limits(tokens=15)})
    asker = BoundedAsker(held, calls, Price())
    under_way = [asyncio.create_task(asker.ask(request(str(number)), Call())) for number in range(3)]
    await held.asked.wait()
    held.let_go.set()
    await asyncio.gather(*under_way)
    assert await asked_until_refused(calls) == (0, "budget.tokens")
    assert len(held.requests) == 3


def test_what_crosses_processes_pickles():
    for each in (Limits(1, 2, 3.0), Taken(1, "budget.usd", True)):
        assert pickle.loads(pickle.dumps(each)) == each
