"""What a run spent of each limit: who pays for which call, that the ledger and a budget agree, and what people read."""

import json

import pytest
from builders import FakeChat, make_image_ref

from dpe_ray.config import parse_config
from dpe_ray.models.call_budget import BoundedAsker, Calls
from dpe_ray.models.journal import Journal, JournaledChat
from dpe_ray.models.price import Price
from dpe_ray.ports import ChatRequest, Limits, Message
from dpe_ray.rounds.ledger import prices, read_calls
from dpe_ray.rounds.machine import grant, spent_limit
from dpe_ray.rounds.record import Cost, summary
from dpe_ray.rounds.reporting import write_report
from dpe_ray.rounds.show import told
from dpe_ray.rounds.spending import cost_by_role, in_words, reached, spending
from dpe_ray.rounds.store import RunFolder

PRICE = {"input": 3.0, "output": 12.0, "image": 500.0}
CALL = (10 * 3.0 + 5 * 12.0) / 1e6 + 0.5
"""US dollars of a call with one image: the fake takes 10 and 5 tokens."""
ASKED = {
    "01-diagnosis": ("student", "judge", "observer", "skill_analyst"),
    "01-supply": ("planner", "validator", "validator", "image_search", "image_operations", "student"),
}


def config_of(**budget):
    return parse_config(
        {
            "name": "test",
            "models": {
                "student": {"source": "s", "engine": "transformers"},
                "teacher": {"base_url": "http://t/v1", "price": PRICE},
            },
            "pool": {"source": "p"},
            "probe": {"source": "b"},
            "decision": {"suite": "g"},
            "budget": budget,
        },
        "test",
    )


class Asker(FakeChat):
    async def ask(self, request, call):
        return await self.chat(request)


@pytest.fixture
async def run(tmp_path):
    """A run of ten calls of one image each; those of tools hold a result."""
    folder = RunFolder.open(tmp_path / "run", config_of().model_dump(mode="json"))
    for stage, roles in ASKED.items():
        chat = JournaledChat(Asker(lambda r: "{}"), Journal(folder.journal(stage), "teacher"), "teacher", "model")
        for number, role in enumerate(roles):
            message = Message("user", str(number), (make_image_ref("a"),))
            await chat.chat(ChatRequest((message,), role, "item", f"{role}@1"))
    return folder


def calls_of(run):
    return read_calls(run.path / "journal")


async def test_every_teacher_call_is_paid_by_one_role_and_students_and_tools_pay_nothing(run):
    costs = cost_by_role(calls_of(run), prices(config_of()))
    assert {role: cost.calls for role, cost in costs.items()} == {
        "": 6, "judge": 2, "skill_analyst": 1, "planner": 1, "validator": 2
    }  # fmt: skip
    one = Cost(1, 1, 15, pytest.approx(CALL))
    assert costs["planner"] == one
    assert costs[""].usd == pytest.approx(6 * CALL)


async def test_a_painted_image_is_the_image_editors_call(run):
    [call] = [call for call in calls_of(run) if call["role"] == "planner"]
    assert set(cost_by_role([call | {"role": "image_edit"}], {})) == {"", "image_editor"}


async def test_a_budget_counts_the_money_that_the_ledger_counts(tmp_path):
    calls = Calls()
    await calls.allow({"judge": Limits(usd=3.2 * CALL, tokens=1000)})
    asker = BoundedAsker(Asker(lambda r: "yes"), calls, Price(**PRICE))
    chat = JournaledChat(asker, Journal(tmp_path / "01-diagnosis", "teacher"), "teacher", "model")
    for number in range(4):
        message = Message("user", str(number), (make_image_ref("a"),))
        await chat.chat(ChatRequest((message,), "judge", "item", "judge@1"))
    assert (await calls.take("judge")).refused == "budget.roles.judge.usd"
    assert cost_by_role(read_calls(tmp_path), prices(config_of()))["judge"].usd == pytest.approx(4 * CALL)


async def left_to(run, stage, **budget):
    """(calls left to a stage, limits that it was granted)"""
    granted = []

    class Granted(Calls):
        async def allow(self, limits):
            granted.append(limits)

    return await grant(Granted(), run, config_of(**budget), stage), granted[0]


async def test_a_stage_is_granted_what_is_left_of_every_limit(run):
    limits = {
        "teacher_calls": 20,
        "tokens": 1000,
        "roles": {"validator": {"calls": 5, "usd": 9.0}, "solver": {"tokens": 7}},
    }
    left, granted = await left_to(run, "02-diagnosis", **limits)
    assert (left, granted[""]) == (14, Limits(14, 1000 - 6 * 15, None))
    assert granted["validator"] == Limits(3, None, pytest.approx(9.0 - 2 * CALL))
    assert granted["solver"] == Limits(None, 7, None)


async def test_what_a_stage_paid_itself_before_it_was_interrupted_does_not_close_it(run):
    limits = {"teacher_calls": 20, "tokens": 60}
    assert (await left_to(run, "01-supply", **limits))[0] == 17
    assert (await left_to(run, "02-diagnosis", **limits))[0] == 0
    assert spent_limit(run, config_of(**limits), "01-supply") == ""
    assert spent_limit(run, config_of(**limits), "02-diagnosis") == "budget.tokens: 90 of 60 tokens are spent"


async def test_spending_names_the_limits_that_are_set_and_no_other(run):
    budget = {"teacher_calls": 2000, "usd": 20.0, "roles": {"validator": {"calls": 2, "tokens": 5000}}}
    found = spending(config_of(**budget), calls_of(run))
    assert found == {
        "teacher_calls": {"spent": 6, "allowed": 2000},
        "usd": {"spent": pytest.approx(6 * CALL, abs=1e-6), "allowed": 20.0},
        "roles.validator.calls": {"spent": 2, "allowed": 2},
        "roles.validator.tokens": {"spent": 30, "allowed": 5000},
    }
    assert in_words(found) == [
        "6 of 2,000 teacher calls", "3.00 of 20.00 US$", "validator: 2 of 2 calls", "validator: 30 of 5,000 tokens"
    ]  # fmt: skip
    assert reached(found) == "budget.roles.validator.calls: 2 of 2 calls are spent"


async def test_a_role_that_was_never_asked_has_its_whole_limit_left():
    found = spending(config_of(roles={"reader": {"usd": 2.0}}), [])
    assert found["roles.reader.usd"] == {"spent": 0, "allowed": 2.0}
    assert reached(found) == ""


async def test_show_and_report_say_what_was_spent_of_what_was_allowed(run):
    budget = spending(config_of(teacher_calls=2000, roles={"validator": {"usd": 3.0}}), calls_of(run))
    run.write_summary(summary("running", (), None, None, cost=Cost(8, 6, 120, 6 * CALL), budget=budget))
    assert json.loads((run.path / "summary.json").read_text())["budget"]["roles.validator.usd"]["allowed"] == 3.0
    lines = [line for line in told(run) if isinstance(line, str)]
    assert lines == [
        "spent: 8 calls, 120 tokens, 3.00 US$",
        "of the budget: 6 of 2,000 teacher calls, validator: 1.00 of 3.00 US$",
    ]
    html = write_report(run).read_text()
    for words in ("6 of 2,000 teacher calls", "validator: 1.00 of 3.00 US$"):
        assert words in html
