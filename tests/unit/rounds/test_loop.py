"""The loop over stages that are scripted here: order, resume, stop, roll back, and the contract of summary.json."""

import json
from dataclasses import replace

import pytest

from dpe_ray.config import parse_config
from dpe_ray.errors import BudgetExceeded, ModelUnavailable
from dpe_ray.rounds.loop import Loop, is_closed
from dpe_ray.rounds.record import close_record
from dpe_ray.rounds.record import summary as whole_summary
from dpe_ray.rounds.round import RoundStages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.supplier import Supplied, SupplierYield
from dpe_ray.types import (
    Answer,
    AnswerKind,
    CellDiagnosis,
    DataPlan,
    Diagnosis,
    Graded,
    ImageRef,
    PolicyRef,
    Provenance,
    Rejection,
    Sample,
    TrainResult,
    Verdict,
    VerdictKind,
)

CATEGORIES = ("diagram", "map")
BASE = PolicyRef("base")


def item(number, category):
    image = ImageRef(f"{number:064x}", f"{number:016x}", 8, 8, "image/png", f"/images/{number}")
    return Sample((image,), f"question {number}", Answer(AnswerKind.NUMBER, "1"), category=category)


SUITE = {s.id: s for s in (item(i, CATEGORIES[i % 2]) for i in range(200))}


class Script:
    """Stages whose candidate answers the share `skill[version]` of the suite; every call is noted."""

    def __init__(self, skill, accepted=4, fail_at=""):
        self.skill, self.accepted, self.fail_at, self.calls = skill, accepted, fail_at, []

    def stages(self):
        return RoundStages(self.diagnose, self.supply, self.finetune, self.measure)

    def note(self, name):
        if name == self.fail_at:
            self.fail_at = ""
            raise ModelUnavailable(f"{name}: endpoint is down")
        self.calls.append(name)

    async def diagnose(self, policy, index):
        self.note(f"diagnose {index} v{policy.version}")
        cells = tuple(CellDiagnosis(c, "counting", 10, 4, 0.17, 0.69, {"calculation": 6}) for c in CATEGORIES)
        return Diagnosis(policy.version, cells, "probe", 20, 0), ()

    async def supply(self, policy, plan, index):
        self.note(f"supply {index}")
        cell = plan.cells[0].cell
        samples = tuple(
            replace(item(1000 * index + i, CATEGORIES[0]), provenance=Provenance("generated", index, cell))
            for i in range(self.accepted)
        )
        rejections = (Rejection(98, "leak", "told", cell), Rejection(99, "pass_rate", "too easy", cell))
        proposed = len(samples) + len(rejections)
        yields = {"annotate": SupplierYield(proposed, len(samples), 10)}
        return Supplied(samples, rejections, proposed, {cell: 1}, "exhausted", 10, yields)

    async def finetune(self, policy, samples, plan, index):
        self.note(f"finetune {index}")
        metrics = tuple({"reward": 0.4 + 0.1 * i} for i in range(3))
        return TrainResult(PolicyRef("base", f"adapter-{index}", index), 3, metrics)

    async def measure(self, policy, suite, index):
        self.note(f"measure {suite} v{policy.version}")
        right = self.skill[policy.version]
        kinds = [VerdictKind.CORRECT if i % 100 < 100 * right else VerdictKind.WRONG for i in range(len(SUITE))]
        return tuple(Graded(s, "answer: 1", Verdict(k, "number@1")) for s, k in zip(SUITE.values(), kinds, strict=True))


@pytest.fixture
def config():
    return parse_config(
        {
            "name": "test",
            "rounds": 2,
            "models": {"student": {"source": "s", "engine": "transformers"}, "teacher": {"base_url": "http://t/v1"}},
            "pool": {"source": "p"},
            "probe": {"source": "b", "size": 20},
            "decision": {"suite": "g", "margin": 0.1},
            "final": [{"suite": "f"}],
            "plan": {"total": 5},
        },
        "test",
    )


def loop(config, path, script):
    suites = {"gate": SUITE, "final": SUITE}
    return Loop(
        config, RunFolder.open(path, config.model_dump(mode="json")), script.stages(), suites, lambda line: None
    )


def summary(path):
    return json.loads((path / "summary.json").read_text())


async def test_two_better_rounds_are_kept_and_the_final_suite_is_opened_once(config, tmp_path):
    script = Script({0: 0.4, 1: 0.6, 2: 0.8})
    kept = await loop(config, tmp_path, script).run(BASE)
    assert kept.version == 2
    assert script.calls[-2:] == ["measure final v0", "measure final v2"]
    assert sum("final" in call for call in script.calls) == 2
    result = summary(tmp_path)
    assert result["status"] == "complete"
    assert result["base"]["macro"] == pytest.approx(0.4)
    assert result["final"]["macro"] == pytest.approx(0.8)
    assert [r["decision"] for r in result["rounds"]] == ["accept", "accept"]
    assert set(result["rounds"][0]["gate"]["by_suite"]) == {"g"}


def test_the_loss_of_supervised_fine_tuning_stands_beside_the_rewards_of_grpo():
    """First and last tenth of each; the loss of a GRPO step is another quantity."""
    sft = tuple({"loss": 2.0 - 0.1 * step} for step in range(20))
    grpo = ({"loss": 9.0, "reward": 0.25}, {"loss": 9.0, "reward": 0.5})
    plan, supplied = DataPlan((), 0), Supplied((), (), 0, {}, "quota", 0)
    for metrics, wanted in (
        (sft, (None, None, 1.95, 0.15)),
        ((*sft, *grpo), (0.25, 0.5, 1.95, 0.15)),
        (grpo, (0.25, 0.5, None, None)),
    ):
        record = close_record(1, BASE, plan, supplied, TrainResult(BASE, len(metrics), metrics))
        ends = (record.reward_first, record.reward_last, record.loss_first, record.loss_last)
        assert ends == pytest.approx(wanted)
        train = whole_summary("complete", [record], None, None)["rounds"][0]["train"]
        assert ("loss_last" in train) == (wanted[3] is not None)


async def test_the_summary_of_a_round_holds_the_contract(config, tmp_path):
    await loop(config, tmp_path, Script({0: 0.4, 1: 0.6, 2: 0.8})).run(BASE)
    assert summary(tmp_path)["budget"] == {"teacher_calls": {"spent": 0, "allowed": 20_000}}
    first = summary(tmp_path)["rounds"][0]
    assert first["index"] == 1
    assert first["proposed"] == first["accepted"] + sum(first["rejected"].values()) == 6
    assert first["rejected"] == {"leak": 1, "pass_rate": 1}
    assert first["suppliers"] == {"annotate": {"proposed": 6, "accepted": 4, "calls": 10}}
    assert sum(first["quota"].values()) == 5
    assert first["train"] == {"steps": 3, "reward_first": pytest.approx(0.4), "reward_last": pytest.approx(0.6)}
    assert first["gate"]["by_category"]["map"]["n"] == 100
    assert {"diagnosis", "plan", "supply", "training", "before", "after", "comparison"} == set(first["seconds"])
    assert set(first["cost"]) == {"calls", "teacher_calls", "tokens", "usd"}


async def test_a_worse_round_is_rolled_back_and_the_next_begins_from_the_old_policy(config, tmp_path):
    script = Script({0: 0.6, 1: 0.3, 2: 0.8})
    kept = await loop(config, tmp_path, script).run(BASE)
    assert [r["decision"] for r in summary(tmp_path)["rounds"]] == ["rollback", "accept"]
    assert "diagnose 2 v0" in script.calls
    assert kept.version == 2


@pytest.mark.parametrize("stage", ["diagnose 1 v0", "supply 1", "finetune 1", "measure gate v1", "supply 2"])
async def test_a_run_that_broke_goes_on_at_the_broken_stage(config, tmp_path, stage):
    whole = Script({0: 0.4, 1: 0.6, 2: 0.8})
    await loop(config, tmp_path / "whole", whole).run(BASE)
    broken = Script({0: 0.4, 1: 0.6, 2: 0.8}, fail_at=stage)
    with pytest.raises(ModelUnavailable):
        await loop(config, tmp_path / "broken", broken).run(BASE)
    assert summary(tmp_path / "broken")["status"] == "running"
    await loop(config, tmp_path / "broken", broken).run(BASE)
    assert broken.calls == whole.calls
    assert summary(tmp_path / "broken")["final"] == summary(tmp_path / "whole")["final"]


async def test_a_finished_run_asks_nothing_again(config, tmp_path):
    await loop(config, tmp_path, Script({0: 0.4, 1: 0.6, 2: 0.8})).run(BASE)
    again = Script({})
    kept = await loop(config, tmp_path, again).run(BASE)
    assert again.calls == []
    assert kept.version == 2


async def test_without_accepted_samples_nothing_is_trained_and_the_loop_stops(config, tmp_path):
    script = Script({0: 0.4}, accepted=0)
    kept = await loop(config, tmp_path, script).run(BASE)
    result = summary(tmp_path)
    assert kept == BASE
    assert [r["decision"] for r in result["rounds"]] == ["stop"]
    assert result["status"] == "complete"
    assert not any("finetune" in call for call in script.calls)


async def test_a_round_without_samples_names_the_largest_rejection_with_its_count_and_an_example(config, tmp_path):
    class Garbage(Script):
        async def supply(self, policy, plan, index):
            cell = plan.cells[0].cell
            noise = [Rejection(i, "unparsable", f"writer: no JSON\nin {'x' * 500}", cell) for i in range(1, 4)]
            rejections = (Rejection(0, "leak", "told", cell), *noise)
            return Supplied((), rejections, 4, {cell: 5}, "exhausted", 8)

    await loop(config, tmp_path, Garbage({0: 0.4})).run(BASE)
    (reason,) = summary(tmp_path)["rounds"][0]["reasons"]
    assert "no sample was accepted" in reason
    assert "3 of 4 slots were rejected as unparsable (the first: writer: no JSON in xxx" in reason
    assert "exhausted" in reason
    assert len(reason.splitlines()) == 1
    assert len(reason) < 400


async def test_a_spent_budget_ends_the_run_complete_with_stop(config, tmp_path):
    script = Script({0: 0.4, 1: 0.6})
    diagnose = script.diagnose

    async def broke(policy, index):
        if index == 2:
            raise BudgetExceeded("budget.teacher_calls: 10 of 10 calls are spent")
        return await diagnose(policy, index)

    script.diagnose = broke
    kept = await loop(config, tmp_path, script).run(BASE)
    result = summary(tmp_path)
    assert [r["decision"] for r in result["rounds"]] == ["accept", "stop"]
    assert kept.version == 1
    assert result["status"] == "complete"


async def test_until_round_leaves_the_run_open(config, tmp_path):
    script = Script({0: 0.4, 1: 0.6, 2: 0.8})
    await loop(config, tmp_path, script).run(BASE, until_round=1)
    assert summary(tmp_path)["status"] == "running"
    assert not any("final" in call for call in script.calls)
    await loop(config, tmp_path, script).run(BASE)
    assert summary(tmp_path)["status"] == "complete"


async def test_until_round_on_a_finished_run_changes_nothing(config, tmp_path):
    await loop(config, tmp_path, Script({0: 0.4, 1: 0.6, 2: 0.8})).run(BASE)
    before = summary(tmp_path)
    await loop(config, tmp_path, Script({})).run(BASE, until_round=1)
    assert summary(tmp_path) == before


async def test_until_round_beyond_the_config_runs_the_configured_rounds(config, tmp_path):
    await loop(config, tmp_path, Script({0: 0.4, 1: 0.6, 2: 0.8})).run(BASE, until_round=9)
    assert len(summary(tmp_path)["rounds"]) == 2
    assert summary(tmp_path)["status"] == "complete"


async def test_a_run_is_closed_when_the_loop_would_do_nothing(config, tmp_path):
    run = RunFolder(tmp_path)
    assert not is_closed(run, 2)
    await loop(config, tmp_path, Script({0: 0.4, 1: 0.6, 2: 0.8})).run(BASE, until_round=1)
    assert is_closed(run, 2, until_round=1)
    assert not is_closed(run, 2)
    assert not is_closed(run, 2, until_round=2)
    await loop(config, tmp_path, Script({0: 0.4, 1: 0.6, 2: 0.8})).run(BASE)
    assert is_closed(run, 2)


async def test_a_round_that_stopped_the_run_is_not_all_the_final_suite_follows(config, tmp_path):
    script = Script({0: 0.4, 1: 0.6}, accepted=0)
    script.fail_at = "measure final v0"
    with pytest.raises(ModelUnavailable):
        await loop(config, tmp_path, script).run(BASE)
    assert not is_closed(RunFolder(tmp_path), 2, until_round=1)


async def test_decision_and_change_are_told_once(config, tmp_path):
    told, script = [], Script({0: 0.4, 1: 0.6})
    run = RunFolder.open(tmp_path, config.model_dump(mode="json"))
    await Loop(config, run, script.stages(), {"gate": SUITE, "final": SUITE}, told.append).run(BASE, until_round=1)
    assert sum("accept:" in line for line in told) == 1
    assert sum("+0.2" in line for line in told) == 1
    assert any("macro 0.400 -> 0.600" in line for line in told)
