"""The shared client at an endpoint that is a script: what it makes of refusals, of failures and of a clock."""

import asyncio
import logging
from dataclasses import replace

import httpx2
import openai
import pytest

from dpe_ray.errors import BadRequest, EndpointDown, ModelUnavailable
from dpe_ray.models import pacing
from dpe_ray.models.journal import Call, Journal, JournaledChat, read_journal
from dpe_ray.models.openai_client import EndpointSpec, RetryingClient
from dpe_ray.ports import ChatRequest, Message

SPEC = EndpointSpec("teacher", "http://127.0.0.1:9/v1", "m", concurrency=16, retries=0)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def refused(status, **headers):
    request = httpx2.Request("POST", SPEC.base_url)
    response = httpx2.Response(
        status, headers={name.replace("_", "-"): v for name, v in headers.items()}, request=request
    )
    return openai.APIStatusError(f"HTTP {status}", response=response, body=None)


class Scripted:
    """Gives or raises what the script says, the last for ever; a second passes with every attempt."""

    def __init__(self, clock, *script):
        self.clock, self.script = clock, list(script)
        self.attempts, self.running, self.most = 0, 0, 0

    async def __call__(self, client, payload):
        self.attempts += 1
        self.running += 1
        self.most = max(self.most, self.running)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await asyncio.sleep(0.002)
        self.clock.now += 1
        self.running -= 1
        if isinstance(step, Exception):
            raise step
        return step


async def ask(client, send, calls=1):
    """What came back of so many calls at once."""
    tasks = [client.ask(dict, send, Call(role="planner")) for _ in range(calls)]
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("busy", [refused(429), refused(503, retry_after="0")])
async def test_an_endpoint_that_says_it_is_busy_gets_fewer_calls_at_once_and_then_more_again(busy):
    clock = Clock()
    client = RetryingClient(SPEC, clock)
    await ask(client, Scripted(clock, busy), 8)
    some = Scripted(clock, "done")
    await ask(client, some, 40)
    assert some.most in range(11, 16), "one refusal of eight at once leaves 11, and 40 successes bring some back"
    await ask(client, some, 200)
    again = Scripted(clock, "done")
    await ask(client, again, 40)
    assert again.most == 16


async def test_one_failure_changes_nothing_and_repeated_ones_do():
    clock = Clock()
    client = RetryingClient(SPEC, clock)
    await ask(client, Scripted(clock, refused(500), "done"), 2)
    full = Scripted(clock, "done")
    await ask(client, full, 40)
    assert full.most == 16
    for _ in range(6):
        await ask(client, Scripted(clock, TimeoutError()))
    fewer = Scripted(clock, "done")
    await ask(client, fewer, 10)
    assert fewer.most <= 6


async def test_an_endpoint_that_is_down_ends_the_stage_and_is_not_asked_on():
    clock = Clock()
    client = RetryingClient(SPEC, clock)
    down = Scripted(clock, refused(503))
    for _ in range(int(pacing.DOWN_AFTER_S)):
        [error] = await ask(client, down)
        assert isinstance(error, ModelUnavailable), "an outage of one item, as long as it may come back"
    [error] = await ask(client, down)
    assert isinstance(error, EndpointDown)
    assert "models.teacher: http://127.0.0.1:9/v1 is down" in str(error)
    assert "resume the run" in str(error)


async def test_a_call_under_way_does_not_use_up_its_retries_when_the_endpoint_is_down():
    clock = Clock()
    client = RetryingClient(EndpointSpec("teacher", SPEC.base_url, "m", retries=1000), clock)
    down = Scripted(clock, refused(503, retry_after="0"))
    [error] = await ask(client, down)
    assert isinstance(error, EndpointDown)
    assert down.attempts <= pacing.DOWN_AFTER_S + 2


async def test_an_endpoint_that_refuses_is_not_down():
    clock = Clock()
    client = RetryingClient(SPEC, clock)
    for _ in range(200):
        [error] = await ask(client, Scripted(clock, refused(400)))
        assert isinstance(error, BadRequest)
    [error] = await ask(client, Scripted(clock, refused(503)))
    assert isinstance(error, ModelUnavailable)


async def test_a_call_that_hangs_is_told_with_role_and_endpoint(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(pacing, "STALL_S", 0.05)

    async def hang(client, payload):
        await asyncio.sleep(0.3)
        return "done"

    with caplog.at_level(logging.WARNING):
        await ask(RetryingClient(replace(SPEC, stalls=str(tmp_path / "stalls.log"))), hang)
    told = "models.teacher: http://127.0.0.1:9/v1: no call of planner ended for"
    assert told in caplog.text
    assert (tmp_path / "stalls.log").read_text().startswith(told)


class Down:
    async def ask(self, request, call):
        raise EndpointDown("models.teacher is down")


async def test_a_call_at_an_endpoint_that_is_down_is_an_outage_in_the_journal(tmp_path):
    chat = JournaledChat(Down(), Journal(tmp_path, "teacher"), "teacher", "m")
    with pytest.raises(EndpointDown):
        await chat.chat(ChatRequest((Message("user", "Why?"),), "judge", "item", "judge@1"))
    [line] = read_journal(tmp_path)
    assert line["outage"]
