import asyncio
import json

import pytest
from builders import FakeChat, make_image_ref

from dpe_ray.errors import ModelUnavailable
from dpe_ray.models.journal import Journal, JournaledChat
from dpe_ray.models.price import Price
from dpe_ray.ports import ChatRequest, Message
from dpe_ray.rounds.ledger import cost, read_calls, round_cost, write_ledger
from dpe_ray.rounds.record import Cost

STAGES = {"support": 6, "01-diagnosis": 3, "01-supply": 5, "01-gate": 2, "02-diagnosis": 1, "final": 4}


class Asker(FakeChat):
    async def ask(self, request, call):
        call.attempts += 1
        return await self.chat(request)


class Together(Asker):
    """Answers when two have asked."""

    both = None

    async def ask(self, request, call):
        self.both = self.both or asyncio.Barrier(2)
        await self.both.wait()
        return await super().ask(request, call)


@pytest.fixture
async def run(tmp_path):
    """A run with some calls in every stage: two images each, 10 + 5 tokens, the first of a stage by the student."""
    for stage, n in STAGES.items():
        chat = JournaledChat(
            Asker(lambda r: "yes"), Journal(tmp_path / "journal" / stage, "teacher"), "teacher", "model"
        )
        for i in range(n):
            message = Message("user", f"question {i}", (make_image_ref("a"), make_image_ref("b")))
            await chat.chat(ChatRequest((message,), "planner" if i else "student", "item", "planner@1"))
    return tmp_path


async def test_rounds_and_final_suites_sum_to_the_ledger(run):
    calls = read_calls(run / "journal")
    first, second = ([c for c in calls if c["stage"].startswith(stages)] for stages in ("01-", ("02-", "support")))
    parts = [round_cost(first, {}, [])]
    parts += [round_cost(first + second, {}, parts), cost(calls, {}, "final")]
    assert [part.calls for part in parts] == [10, 6 + 1, 4]
    write_ledger(run)
    lines = (run / "ledger.jsonl").read_text().splitlines()
    assert sum(parts, Cost()) == cost(calls, {}) == Cost(len(lines), len(lines) - len(STAGES), 15 * len(lines), 0.0)


async def test_tokens_and_images_have_their_prices(run):
    calls = read_calls(run / "journal")
    prices = {"teacher": Price(input=2.0, output=6.0, image=7.5)}
    assert cost(calls, prices).usd == pytest.approx(21 * ((10 * 2 + 5 * 6) / 1e6 + 2 * 7.5 / 1e3))
    assert cost(calls, {"other": Price(1.0, 1.0, 1.0)}).usd == 0


async def test_the_ledger_says_how_many_images_were_sent(run):
    write_ledger(run)
    assert {json.loads(line)["images"] for line in (run / "ledger.jsonl").read_text().splitlines()} == {2}


async def test_a_call_without_an_answer_stands_in_the_ledger_and_costs_nothing(tmp_path):
    down = Asker(lambda r: ModelUnavailable("503"))
    chat = JournaledChat(down, Journal(tmp_path / "journal" / "01-supply", "teacher"), "teacher", "model")
    with pytest.raises(ModelUnavailable):
        await chat.chat(ChatRequest((Message("user", "x"),), "planner", "item", "planner@1"))
    calls = read_calls(tmp_path / "journal")
    assert [call["outage"] for call in calls] == [True]
    assert cost(calls, {}) == Cost()


async def test_a_call_that_two_workers_paid_is_counted_twice_in_one_line(tmp_path):
    folder, request = tmp_path / "journal" / "01-supply", ChatRequest((Message("user", "x"),), "planner", "i", "p@1")
    down = Asker(lambda r: ModelUnavailable("503"))
    with pytest.raises(ModelUnavailable):
        await JournaledChat(down, Journal(folder, "teacher"), "teacher", "model").chat(request)
    both = Together(lambda r: "yes")
    doors = [JournaledChat(both, Journal(folder, "teacher"), "teacher", "model") for _ in range(2)]
    await asyncio.gather(*(door.chat(request) for door in doors))
    [call] = read_calls(tmp_path / "journal")
    assert (call["paid"], call["attempts"], call["prompt_tokens"], call["completion_tokens"]) == (2, 3, 20, 10)
    assert "error" not in call
    prices = {"teacher": Price(input=1.0, output=2.0)}
    assert cost([call], prices) == Cost(2, 2, 30, pytest.approx((20 + 2 * 10) / 1e6))
