"""The presets that locate mistakes and retrieve, from their YAML to the samples that are trained on."""

import pytest

from dpe_ray.plan.stage import make_plan
from dpe_ray.rounds.loop import Loop
from dpe_ray.types import Diagnosis, PolicyRef

BASE = PolicyRef("base")


async def go_round(wired, *overrides):
    """(diagnosis, plan, supplied) of a first round."""
    config, _, _, stages = wired("error_driven", *overrides)
    diagnosis, _ = await stages.diagnose(BASE, 1)
    plan = make_plan(diagnosis, config.plan)
    return diagnosis, plan, await stages.supply(BASE, plan, 1)


async def test_a_round_locates_the_step_names_the_skill_and_retrieves_by_it(wired, models):
    diagnosis, plan, supplied = await go_round(wired)
    assert {(e.location.method, e.location.step, e.dropped) for e in diagnosis.errors} == {("answer_switch", 2, "")}
    assert {"map/follow_a_road", "chart/compare_the_heights"} <= plan.quotas.keys()
    assert sum(quota for cell, quota in plan.quotas.items() if cell.endswith("unspecified")) == 0
    assert supplied.shortfall == {}
    assert {s.category: s.provenance.cell for s in supplied.samples} == {
        "map": "map/follow_a_road",
        "chart": "chart/compare_the_heights",
    }
    assert {s.provenance.source for s in supplied.samples} == {"retrieved"}
    assert "judge" not in models.asked
    assert "skill_analyst" not in models.asked


async def test_errors_decide_how_much_is_retrieved_for_each_cell(wired):
    diagnosis, plan, _ = await go_round(wired)
    maps = sum(e.category == "map" for e in diagnosis.errors)
    assert maps > len(diagnosis.errors) / 2
    assert plan.quotas["map/follow_a_road"] == round(12 * maps / len(diagnosis.errors))


async def test_without_analysis_the_words_of_the_wrong_step_are_the_query(wired, models):
    _, plan, _ = await go_round(wired, "diagnose.analysis=false")
    assert {query for cell in plan.cells for query in cell.queries} == {"I count 4 of them there."}
    assert "errors" not in models.asked


async def test_without_localisation_nobody_reads_and_no_step_is_marked(wired, models):
    diagnosis, plan, supplied = await go_round(wired, "diagnose.locate=none")
    assert "reader" not in models.asked
    assert {(e.location.method, e.location.step) for e in diagnosis.errors} == {("none", None)}
    assert all(">> " not in r.messages[0].text.partition("Student's steps:")[2] for r in models.chat.requests)
    assert len(supplied.samples) == plan.total


@pytest.mark.parametrize(("skills", "cells"), [(1, 2), (3, 4)])
async def test_an_error_lacks_one_skill_or_several(wired, skills, cells):
    diagnosis, _, _ = await go_round(wired, f"diagnose.skills_per_error={skills}")
    assert len({(e.category, s.name) for e in diagnosis.errors for s in e.skills}) == cells


async def test_two_rounds_run_and_the_second_still_finds_rationales_to_analyse(wired, models):
    config, run, sets, stages = wired("error_driven")
    told = []
    kept = await Loop(config, run, stages, sets.suites(), told.append).run(BASE)
    assert kept.version >= 1
    second = run.round(2).load_json("diagnosis", Diagnosis)
    assert second.policy_version == 1
    assert second.errors
    assert {(e.location.step, bool(e.skills)) for e in second.errors} == {(2, True)}
    first, then = (run.round(index).load_samples() for index in (1, 2))
    assert (len(first), len(then)) == (12, 12)
    assert {s.id for s in first}.isdisjoint({s.id for s in then})
    assert any("3 steps, loss 1.00 -> 0.50" in line for line in told)


async def test_the_support_set_is_labelled_once_and_nothing_of_it_is_replayed_that_was_retrieved(wired, models):
    config, run, sets, stages = wired("error_driven")
    await Loop(config, run, stages, sets.suites(), lambda line: None).run(BASE)
    assert models.asked["lister"] == len(sets.support)
    for lessons in models.lessons:
        assert len({s.id for s in lessons}) == len(lessons) == 12 + 3


async def test_a_round_of_unified_diagnoses_both_ways_measures_needs_and_retrieves_first(wired, models):
    config, _, _, stages = wired("unified")
    diagnosis, _ = await stages.diagnose(BASE, 1)
    assert {cell.skill for cell in diagnosis.cells} == {"read_plan"}
    assert all(cell.learnability == 0.0 for cell in diagnosis.cells)
    assert diagnosis.cells[0].failures[0].attribution.description == "It miscounts."
    assert diagnosis.errors
    supplied = await stages.supply(BASE, make_plan(diagnosis, config.plan), 1)
    assert next(iter(supplied.by_supplier)) == "retrieve"
    assert supplied.by_supplier["retrieve"].accepted > 0
    assert {s.difficulty.pass_rate for s in supplied.samples} == {4 / 9}
    assert all(s.category == s.provenance.cell.partition("/")[0] for s in supplied.samples)
