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
from dpe_ray.pool.contamination import HeldOut
from dpe_ray.pool.cursor import Cursor
from dpe_ray.pool.duplicates import SeenImages
from dpe_ray.pool.sets import Draw, Drawn
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
SETS = {"pool": None, "support": SUPPORT, "probe": (), "gate": (), "final": (), "held_out": HeldOut.build(())}


class Pool:
    def draw(self, *, seed, cursor, seen):
        rows = (Drawn(make_image_ref(f"image-{i}"), Cursor(i + 1)) for i in count(cursor.rows))
        return Draw(rows, cursor)

    def seen(self, stored=None):
        return SeenImages(str)


class Door:
    """Opens the team behind a journal and a budget, as the doors of a run are."""

    def __init__(self, team, folder, budget):
        self.team, self.folder, self.budget = team, folder, budget

    def open(self):
        asker = BoundedAsker(self, self.budget) if self.budget else self
        return JournaledChat(asker, Journal(self.folder, "team"), "team", "model")

    async def ask(self, request, call):
        return await self.team.chat.chat(request)


def stages_of(team, folder, calls, concurrency, order=("annotate",)):
    config = parse_config(
        {
            "name": "test",
            "models": {"student": {"source": "s", "engine": "transformers"}, "teacher": {"base_url": "http://t/v1"}},
            "pool": {"source": "p"},
            "probe": {"source": "b"},
            "decision": {"suite": "g"},
            "plan": {"total": 20},
            "support": {"source": "s"},
            "supply": {"concurrency": concurrency, "order": order},
            "budget": {"teacher_calls": calls},
        },
        "test",
    )
    run, budget = RunFolder(folder), Calls()

    def door(role, stage, version):
        return Door(team, run.journal(stage), None if role == "student" else budget)

    async def publish(policy):
        pass

    machine = Machine(LocalMapper(), door, None, Quotas, budget, None, publish)
    return make_stages(config, run, SimpleNamespace(**SETS | {"pool": Pool()}), machine)


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
    with pytest.raises(BudgetExceeded, match="all 40 calls"):
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
