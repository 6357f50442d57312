"""Rounds whose quotas programs fill first, on the micro world, wired as in one process, every call in a journal."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from builders import FakeChat, make_png

from dpe_ray.config import load_config
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.sources import materialise
from dpe_ray.models.call_budget import BoundedAsker, Calls
from dpe_ray.models.journal import Journal, JournaledChat
from dpe_ray.models.price import Price
from dpe_ray.ports import ChatModel
from dpe_ray.rounds.ledger import read_calls
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.rounds.loop import Loop
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.reporting import write_report
from dpe_ray.rounds.sets import load_sets
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.construct.registry import load_programs
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import CellPlan, DataPlan, PolicyRef, TrainResult

BASE = PolicyRef("base")
CHART, SHAPES, MIXED = "chart_graph/read_value", "geometric/count_shapes", "mixed/count_pasted"
YAML = """
name: test
seed: 3
models: {{student: {{source: s, engine: transformers}}, teacher: {{base_url: "http://t/v1"}}}}
pool: {{source: "{world}/pool"}}
probe: {{source: "{world}/probe.parquet", size: 40}}
decision: {{suite: "{world}/gate.parquet"}}
plan: {{total: 24}}
supply:
  order: [construct, annotate]
  construct: {{planner: false}}
  pass_rate: [0, 1]
  pass_rate_samples: 2
"""


class Killed(Exception):
    """Ends a life of a run as a kill would: nobody catches it."""


@dataclass(frozen=True)
class Door:
    """To a model in this process, with journal and budget as a worker has them."""

    model: ChatModel
    folder: Path
    calls: Calls | None

    def open(self):
        asker = BoundedAsker(self, self.calls, Price()) if self.calls else self
        return JournaledChat(asker, Journal(self.folder, "test"), "model", "model")

    async def ask(self, request, call):
        call.attempts += 1
        return await self.model.chat(request)


class Life:
    """One process that works on a run: the oracle as teacher, a student that says 1 to everything."""

    def __init__(self, world, folder, *overrides, planner=None, dies_at=0):
        (folder.parent / "run.yaml").write_text(YAML.format(world=world))
        self.config = load_config(folder.parent / "run.yaml", overrides)
        self.run = RunFolder.open(folder, self.config.model_dump(mode="json"))
        self.sets = load_sets(self.config, self.run)
        self.calls, self.planner, self.dies_at = Calls(), planner, dies_at
        self.teacher = EngineDoor(OracleEngine(str(world / "truth.jsonl"), {}), "oracle")
        self.student = FakeChat(self.say)
        machine = Machine(LocalMapper(), self.door, None, Quotas, self.calls, self, self.publish)
        self.stages = make_stages(self.config, self.run, self.sets, machine)

    def door(self, role, stage, version):
        if role == "student":
            return Door(self.student, self.run.journal(stage), None)
        model = self.planner if role == "planner" and self.planner else self.teacher
        return Door(model, self.run.journal(stage), self.calls)

    def say(self, request):
        measured = sum(asked.n > 1 for asked in self.student.requests)
        return Killed() if measured == self.dies_at > 0 else "answer: 1"

    async def publish(self, policy):
        pass

    async def finetune(self, policy, samples, *, out, seed):
        return TrainResult(PolicyRef("base", out, 1), 1, ({"reward": 0.5},))

    async def go(self):
        """A whole round; gives its entry in the summary."""
        loop = Loop(self.config, self.run, self.stages, self.sets.suites(), lambda line: None)
        await loop.run(BASE)
        return self.run.summary()["rounds"][0]

    async def fill(self, **quotas):
        """Supply alone."""
        cells = {"chart": CHART, "shapes": SHAPES, "mixed": MIXED}
        plan = [CellPlan(*cells[name].split("/"), 0.1, quota, "exercise it") for name, quota in quotas.items()]
        return await self.stages.supply(BASE, DataPlan(tuple(plan), sum(quotas.values())), 1)

    def constructed(self):
        """(id, cell) of what programs made, and (slot, gate) of what they did not, in order."""
        folder = self.run.round(1)
        ours = folder.load_json("supply", dict)["by_supplier"]["construct"]["proposed"]
        samples = [s for s in folder.load_samples() if s.provenance.source == "constructed"]
        refused = [(r.slot, r.gate) for r in folder.load_rejected() if r.slot < ours]
        return [(s.id, s.provenance.cell) for s in samples], refused

    def paid(self):
        """Keys of the calls of supply, by how often they were paid."""
        return Counter(c["key"] for c in read_calls(self.run.path / "journal") for _ in range(c["paid"]))


def kept(sample):
    """All that does not depend on where the run lies; the provenance holds the journal's keys."""
    return sample.id, sample.provenance, sample.difficulty


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return materialise(tmp_path_factory.mktemp("world"), share=0.03)


@pytest.fixture
def live(world, tmp_path):
    return lambda name, *overrides, **values: Life(world, tmp_path / name, *overrides, **values)


async def test_a_round_fills_what_programs_can_draw_without_a_teacher_and_annotates_the_rest(live):
    life = live("run")
    entry = await life.go()
    samples = life.run.round(1).load_samples()
    by_source = Counter(s.provenance.source for s in samples)
    drawn = Counter(s.provenance.cell for s in samples if s.provenance.source == "constructed")
    suppliers = entry["suppliers"]
    assert list(suppliers) == ["construct", "annotate"]
    assert {name: part["accepted"] for name, part in suppliers.items()} == {
        "construct": by_source["constructed"],
        "annotate": by_source["generated"],
    }
    assert suppliers["construct"]["calls"] == 0 < suppliers["annotate"]["calls"]
    assert drawn == {cell: entry["quota"][cell] for cell in drawn}
    assert len({cell.partition("/")[0] for cell in drawn}) >= 3
    assert not any(cell.startswith("natural_scene") for cell in drawn)
    assert entry["proposed"] == entry["accepted"] + sum(entry["rejected"].values())
    assert "<td>construct</td>" in write_report(life.run).read_text()


async def test_equal_seeds_construct_the_same_and_another_seed_something_else(live):
    one, same, other = [
        await live(name, "supply.order=[construct]", f"seed={seed}").fill(chart=3, shapes=3)
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    ]
    assert [kept(s) for s in one.samples] == [kept(s) for s in same.samples]
    assert {s.id for s in one.samples}.isdisjoint(s.id for s in other.samples)


async def test_a_killed_round_goes_on_and_doubles_nothing(live):
    whole, cut = live("whole"), live("cut", dies_at=5)
    await whole.go()
    with pytest.raises(Killed):
        await cut.go()
    again = live("cut")
    entry = await again.go()
    assert again.constructed() == whole.constructed()
    ids = [s.id for s in again.run.round(1).load_samples()]
    assert len(set(ids)) == len(ids) == entry["accepted"]
    later = live("cut")
    await later.go()
    assert later.student.requests == []


def reckless(request):
    """A planner whose first reply about charts is no JSON, and of whose parameter sets each third is unusable."""
    cell, _, part = request.item.partition("#")
    if cell == CHART and part == "0":
        return "Sorry, here is your JSON: {samples"
    name, ask = ("bar_chart", "read_value") if cell == CHART else ("shape_count", "count_shapes")
    rng = Random(request.item)
    good = [load_programs((name,))[name].sample(ask, 0.5, rng).model_dump(mode="json") for _ in range(4)]
    out_of_range = {**good[2], "levels": [10**6] * 3, "groups": []}
    return json.dumps({"samples": [{"program": name, "params": p} for p in (good[0], good[1], out_of_range)]})


PLANNED = ("supply.order=[construct]", "supply.construct={planner: true, per_call: 3}")


async def test_a_planner_that_replies_nonsense_costs_slots_that_are_counted_and_no_label(live):
    life = live("run", *PLANNED, planner=FakeChat(reckless))
    supplied = await life.fill(chart=6, shapes=6)
    gates = Counter((r.cell, r.gate) for r in supplied.rejections)
    assert gates[CHART, "unparsable"] == 1
    assert gates[CHART, "params"] >= 1 < gates[SHAPES, "params"]
    assert {gate for _, gate in gates} == {"unparsable", "params"}
    assert (supplied.shortfall, len(supplied.samples)) == ({}, 12)
    assert supplied.proposed == 12 + len(supplied.rejections)
    yielded = supplied.by_supplier["construct"]
    assert (yielded.accepted, yielded.calls) == (12, len(life.planner.requests))
    assert sum(c["role"] == "planner" for c in read_calls(life.run.path / "journal")) == yielded.calls


async def test_what_a_planner_was_paid_for_before_a_kill_is_not_paid_again(live):
    whole = live("whole", *PLANNED, planner=FakeChat(reckless))
    expected = await whole.fill(chart=6, shapes=6)
    with pytest.raises(Killed):
        await live("cut", *PLANNED, planner=FakeChat(reckless), dies_at=7).fill(chart=6, shapes=6)
    again = live("cut", *PLANNED, planner=FakeChat(reckless))
    supplied = await again.fill(chart=6, shapes=6)
    assert [kept(s) for s in supplied.samples] == [kept(s) for s in expected.samples]
    assert [(r.slot, r.gate, r.reason) for r in supplied.rejections] == [
        (r.slot, r.gate, r.reason) for r in expected.rejections
    ]
    assert again.paid() == whole.paid()
    assert set(again.paid().values()) == {1}
    assert {file.name for file in again.run.images.iterdir()} == {file.name for file in whole.run.images.iterdir()}


async def test_the_oracle_leaves_parameters_open_and_they_are_sampled(live):
    supplied = await live("run", *PLANNED).fill(shapes=3)
    assert (len(supplied.samples), supplied.rejections, supplied.calls) == (3, (), 1)


async def test_the_budget_ends_the_planners_calls_and_not_the_supply(live):
    life = live("run", *PLANNED, "budget.teacher_calls=2", planner=FakeChat(reckless))
    supplied = await life.fill(shapes=20)
    assert (len(supplied.samples), supplied.calls, len(life.planner.requests)) == (20, 2, 2)


async def test_pool_images_are_edited_without_a_teacher(live, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(8):
        (tmp_path / "photos" / f"{number}.png").write_bytes(make_png(number, size=256))
    life = live("run", "supply.order=[construct]", f"pool.source={tmp_path}/photos")
    supplied = await life.fill(mixed=4)
    assert [s.images[0].origin for s in supplied.samples] == ["edit"] * 4
    assert supplied.by_supplier["construct"].calls == 0
