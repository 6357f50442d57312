"""A budget bounds what is asked, and a resumed supply sees the same one."""

import json
from itertools import count
from types import SimpleNamespace

import pytest
from builders import make_image_ref, make_sample

from dpe_ray.config import parse_config
from dpe_ray.errors import BudgetExceeded, ClusterError
from dpe_ray.models.call_budget import BoundedAsker, Calls
from dpe_ray.models.journal import Journal, JournaledChat, read_journal
from dpe_ray.models.price import Price
from dpe_ray.pool.contamination import HeldOut
from dpe_ray.pool.cursor import Cursor
from dpe_ray.pool.duplicates import SeenImages
from dpe_ray.pool.sets import Draw, Drawn
from dpe_ray.rounds.ledger import prices
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import CellPlan, DataPlan, PolicyRef

CELL = "geometric/shape_colour"
POLICY = PolicyRef("base")
PLAN = DataPlan((CellPlan(*CELL.split("/"), 1.0, 20, "name colours"),), 20)
SUPPORT = tuple(make_sample(f"What colour is thing {i}?", image=make_image_ref(f"support-{i}")) for i in range(6))
SETS = {"pool": None, "support": SUPPORT, "probe": (), "gate": (), "final": (), "held_out": HeldOut.build(()),
        "suites": lambda: {"gate": {sample.id: sample for sample in SUPPORT}}}  # fmt: skip


FREE = Price()
PRICE = {"input": 15_625.0, "output": 15_625.0}
"""Every call of the team takes 10 + 5 tokens: 0.234375 US$."""


class Pool:
    def draw(self, *, seed, cursor, seen):
        rows = (Drawn(make_image_ref(f"image-{i}"), Cursor(i + 1)) for i in count(cursor.rows))
        return Draw(rows, cursor)

    def seen(self, stored=None):
        return SeenImages(str)


class Door:
    """Opens the team behind a journal and a budget, as the doors of a run are."""

    def __init__(self, team, folder, budget, price=FREE):
        self.team, self.folder, self.budget, self.price = team, folder, budget, price

    def open(self):
        asker = BoundedAsker(self, self.budget, self.price) if self.budget else self
        return JournaledChat(asker, Journal(self.folder, "team"), "team", "model")

    async def ask(self, request, call):
        return await self.team.chat.chat(request)


def stages_of(team, folder, calls, concurrency, order=("annotate",), **limits):
    config = parse_config(
        {
            "name": "test",
            "models": {
                "student": {"source": "s", "engine": "transformers"},
                "team": {"base_url": "http://t/v1", "price": PRICE},
            },
            "roles": {"default": "team"},
            "pool": {"source": "p"},
            "probe": {"source": "b"},
            "decision": {"suite": "g"},
            "plan": {"total": 20},
            "support": {"source": "s"},
            "supply": {"concurrency": concurrency, "order": order},
            "budget": {"teacher_calls": calls, **limits},
        },
        "test",
    )
    run, budget = RunFolder(folder), Calls()

    def door(role, stage, version):
        return Door(team, run.journal(stage), None if role == "student" else budget, prices(config)["team"])

    async def publish(policy):
        pass

    machine = Machine(LocalMapper(), door, None, Quotas, budget, None, publish)
    return make_stages(config, run, SimpleNamespace(**SETS | {"pool": Pool(), "drawn_from": Pool}), machine)


def paid(folder):
    return sum(line["role"] != "student" for line in read_journal(folder / "journal"))


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_no_call_is_made_beyond_the_budget(team, tmp_path, concurrency):
    team.change("validator", answer_correct=False)  # every slot asks for more than was expected of it
    got = await stages_of(team, tmp_path, 50, concurrency).supply(POLICY, PLAN, 1)
    assert got.closed_by == "budget"
    assert 46 <= paid(tmp_path) <= 50
    assert ("budget" in {r.gate for r in got.rejections}) is (concurrency > 1)


@pytest.mark.parametrize("cut", [1, 13, 31, 39])
async def test_a_supply_that_was_cut_off_ends_as_an_undisturbed_one(team, tmp_path, cut):
    whole = await stages_of(team, tmp_path / "whole", 40, 1).supply(POLICY, PLAN, 1)
    assert (whole.closed_by, len(whole.samples), paid(tmp_path / "whole")) == ("budget", 10, 40)

    good, left = team.chat.script, iter(range(cut))
    team.chat.script = lambda request: good(request) if next(left, None) is not None else ClusterError("killed")
    with pytest.raises(ClusterError):
        await stages_of(team, tmp_path / "cut", 40, 1).supply(POLICY, PLAN, 1)
    team.chat.script = good
    assert await stages_of(team, tmp_path / "cut", 40, 1).supply(POLICY, PLAN, 1) == whole
    assert paid(tmp_path / "cut") == 40


async def test_a_supply_that_spent_everything_is_replayed_for_nothing(team, tmp_path):
    first = await stages_of(team, tmp_path, 40, 4).supply(POLICY, PLAN, 1)
    team.chat.requests.clear()
    again = await stages_of(team, tmp_path, 40, 4).supply(POLICY, PLAN, 1)
    assert again.samples == first.samples
    assert len(again.samples) >= 40 // 4 - 4, "each of four slots may be cut off"
    assert paid(tmp_path) == 40
    assert team.chat.requests == []


async def test_what_earlier_stages_spent_is_gone(team, tmp_path):
    first = await stages_of(team, tmp_path, 40, 1).supply(POLICY, PLAN, 1)
    RunFolder(tmp_path).round(1).save_samples(first.samples)
    got = await stages_of(team, tmp_path, 48, 1).supply(POLICY, PLAN, 2)
    assert (len(got.samples), got.closed_by) == (2, "budget")


async def test_a_supply_without_any_budget_closes_without_a_sample(team, tmp_path):
    got = await stages_of(team, tmp_path, 0, 1).supply(POLICY, PLAN, 1)
    assert (got.samples, got.closed_by, team.chat.requests) == ((), "budget", [])


async def test_no_diagnosis_begins_once_everything_is_spent(team, tmp_path):
    await stages_of(team, tmp_path, 40, 1).supply(POLICY, PLAN, 1)
    with pytest.raises(BudgetExceeded, match=r"budget\.teacher_calls: 40 of 40 teacher calls are spent"):
        await stages_of(team, tmp_path, 40, 1).diagnose(POLICY, 2)


async def test_the_support_set_is_labelled_when_annotation_left_cells_short_and_not_before(team, tmp_path):
    team.says["skill_analyst"] = lambda request: json.dumps({"skills": ["name the colours of things"]})
    order = ("annotate", "retrieve")
    full = await stages_of(team, tmp_path / "full", 1000, 4, order).supply(POLICY, PLAN, 1)
    assert (len(full.samples), list(full.by_supplier), team.asked("skill_analyst")) == (20, ["annotate"], [])

    team.change("validator", answer_correct=False)
    short = await stages_of(team, tmp_path / "short", 1000, 4, order).supply(POLICY, PLAN, 1)
    assert short.by_supplier["annotate"].accepted == 0
    assert short.by_supplier["retrieve"].accepted == len(SUPPORT) == len(team.asked("skill_analyst"))


async def test_a_budget_that_labelling_exceeds_closes_supply_with_what_was_annotated(team, tmp_path):
    got = await stages_of(team, tmp_path, 40, 1, ("annotate", "retrieve")).supply(POLICY, PLAN, 1)
    assert (len(got.samples), got.closed_by, got.shortfall) == (10, "budget", {CELL: 10})
    assert team.asked("skill_analyst") == []
    assert paid(tmp_path) == 40


TEN_SAMPLES = [
    {"usd": 40 * 0.234375},
    {"tokens": 40 * 15},
    {"roles": {"validator": {"calls": 10}}},
    {"roles": {"validator": {"tokens": 10 * 15}}},
    {"usd": 1000.0, "roles": {"validator": {"usd": 10 * 0.234375}, "planner": {"calls": 999}}},
]
"""Limits that a slot's four calls reach after ten slots."""


@pytest.mark.parametrize("limits", TEN_SAMPLES)
async def test_any_limit_closes_supply_with_what_it_has(team, tmp_path, limits):
    got = await stages_of(team, tmp_path, 1000, 1, **limits).supply(POLICY, PLAN, 1)
    assert (got.closed_by, len(got.samples)) == ("budget", 10)
    assert {rejection.gate for rejection in got.rejections} == {"budget"}
    assert len(team.asked("validator")) == 10
    assert paid(tmp_path) - 40 <= 2, "of the slot that finds a role spent, only what comes before that role is paid"


@pytest.mark.parametrize("limits", TEN_SAMPLES)
async def test_a_limit_is_overshot_by_the_slots_in_flight_at_most(team, tmp_path, limits):
    got = await stages_of(team, tmp_path, 1000, 4, **limits).supply(POLICY, PLAN, 1)
    assert got.closed_by == "budget"
    assert 10 - 4 <= len(got.samples) <= 10 + 4
    assert 10 - 4 <= len(team.asked("validator")) < 10 + 4
    assert paid(tmp_path) <= 40 + 4 * 4


@pytest.mark.parametrize("limits", TEN_SAMPLES)
@pytest.mark.parametrize("cut", [7, 38, 45])
async def test_a_supply_under_any_limit_that_was_cut_off_ends_as_an_undisturbed_one(team, tmp_path, cut, limits):
    whole = await stages_of(team, tmp_path / "whole", 1000, 1, **limits).supply(POLICY, PLAN, 1)
    good, left = team.chat.script, iter(range(cut))
    team.chat.script = lambda request: good(request) if next(left, None) is not None else ClusterError("killed")
    with pytest.raises(ClusterError):
        await stages_of(team, tmp_path / "cut", 1000, 1, **limits).supply(POLICY, PLAN, 1)
    team.chat.script = good
    assert await stages_of(team, tmp_path / "cut", 1000, 1, **limits).supply(POLICY, PLAN, 1) == whole
    assert paid(tmp_path / "cut") == paid(tmp_path / "whole")


@pytest.mark.parametrize("limits", TEN_SAMPLES)
async def test_nothing_that_was_paid_before_a_limit_was_reached_is_lost_to_a_resumed_supply(team, tmp_path, limits):
    first = await stages_of(team, tmp_path, 1000, 4, **limits).supply(POLICY, PLAN, 1)
    asked = len(team.asked("validator"))
    again = await stages_of(team, tmp_path, 1000, 4, **limits).supply(POLICY, PLAN, 1)
    assert {sample.id for sample in first.samples} <= {sample.id for sample in again.samples}
    assert len(team.asked("validator")) == asked


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (TEN_SAMPLES[0], r"budget\.usd: 9\.38 of 9\.38 US\$ are spent"),
        (TEN_SAMPLES[1], r"budget\.tokens: 600 of 600 tokens are spent"),
        (TEN_SAMPLES[2], r"budget\.roles\.validator\.calls: 10 of 10 calls are spent"),
    ],
)
async def test_no_diagnosis_begins_behind_a_limit_that_was_reached(team, tmp_path, limits, told):
    await stages_of(team, tmp_path, 1000, 1, **limits).supply(POLICY, PLAN, 1)
    with pytest.raises(BudgetExceeded, match=told):
        await stages_of(team, tmp_path, 1000, 1, **limits).diagnose(POLICY, 2)


@pytest.mark.parametrize("limits", TEN_SAMPLES[:2])
async def test_a_supply_for_which_others_left_no_tokens_or_money_begins_no_slot(team, tmp_path, limits):
    first = await stages_of(team, tmp_path, 1000, 1, **limits).supply(POLICY, PLAN, 1)
    RunFolder(tmp_path).round(1).save_samples(first.samples)
    got = await stages_of(team, tmp_path, 1000, 1, **limits).supply(POLICY, PLAN, 2)
    assert (got.proposed - len(got.rejections), got.closed_by) == (0, "budget")
    assert paid(tmp_path) == 40


async def test_policies_are_measured_whatever_is_spent(team, tmp_path):
    limits = {"usd": 40 * 0.234375, "roles": {"judge": {"calls": 1}}}
    team.says["judge"] = lambda request: json.dumps({"correct": True})
    team.says["student"] = lambda request: ["answer: a deep dark red"] * request.n
    stages = stages_of(team, tmp_path, 40, 1, **limits)
    await stages.supply(POLICY, PLAN, 1)
    assert all(graded.verdict.judged for graded in await stages.measure(POLICY, "gate", 1))
    assert len(team.asked("judge")) == len(SUPPORT)
