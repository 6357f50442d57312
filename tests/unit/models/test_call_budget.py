import asyncio

import pytest
from builders import FakeChat

from dpe_ray.errors import BadRequest, BudgetExceeded, ModelUnavailable
from dpe_ray.models.call_budget import BoundedAsker, Calls
from dpe_ray.models.journal import Call, Journal, JournaledChat
from dpe_ray.ports import ChatRequest, Message


class Asked(FakeChat):
    async def ask(self, request, call):
        return await self.chat(request)


def request(text):
    return ChatRequest((Message("user", text),), "planner", "item", "planner@1")


def bounded(asked, calls, folder):
    return JournaledChat(BoundedAsker(asked, calls), Journal(folder, "teacher"), "teacher", "model")


async def test_a_call_beyond_the_budget_is_refused_before_it_is_made(tmp_path):
    asked, calls = Asked(lambda r: "yes"), Calls()
    await calls.allow(2)
    chat = bounded(asked, calls, tmp_path)
    await chat.chat(request("one"))
    await chat.chat(request("two"))
    with pytest.raises(BudgetExceeded):
        await chat.chat(request("three"))
    assert len(asked.requests) == 2


async def test_what_the_journal_knows_is_free(tmp_path):
    asked, calls = Asked(lambda r: "yes"), Calls()
    await calls.allow(1)
    await bounded(asked, calls, tmp_path).chat(request("one"))
    again = await bounded(asked, calls, tmp_path).chat(request("one"))
    assert again.cached


@pytest.mark.parametrize("error", [ModelUnavailable("503"), BadRequest("too long")])
async def test_a_call_without_an_answer_costs_nothing(error):
    calls = Calls()
    await calls.allow(1)
    with pytest.raises(type(error)):
        await BoundedAsker(Asked(lambda r: error), calls).ask(request("one"), Call())
    assert await calls.take()
    assert not await calls.take()


async def test_nothing_is_bounded_until_it_is_and_when_it_is_lifted():
    calls = Calls()
    assert await calls.take()
    await calls.allow(0)
    assert not await calls.take()
    await calls.allow(None)
    assert await calls.take()


class Held(FakeChat):
    """Fails when it is let go."""

    async def ask(self, request, call):
        self.asked.set()
        await self.let_go.wait()
        raise ModelUnavailable("503")


@pytest.mark.parametrize("before", [5, None])
async def test_a_call_that_fails_after_the_next_allowance_adds_nothing_to_it(before):
    calls, held = Calls(), Held(None)
    held.asked, held.let_go = asyncio.Event(), asyncio.Event()
    await calls.allow(before)
    under_way = asyncio.create_task(BoundedAsker(held, calls).ask(request("one"), Call()))
    await held.asked.wait()
    await calls.allow(1)
    held.let_go.set()
    with pytest.raises(ModelUnavailable):
        await under_way
    assert await calls.take()
    assert not await calls.take(), "the new allowance is of one call"
