"""Screening the support set: who is asked what, and how often."""

from dataclasses import replace

import pytest

from dpe_ray.errors import ModelUnavailable
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.screening import screened
from dpe_ray.types import CellPlan, DataPlan, PolicyRef

BASE, LATER = PolicyRef("base"), PolicyRef("base", "adapter", 1)
IN_BAND = ["map support 1", "map support 4", "map support 7", "chart support 1", "chart support 4", "chart support 7"]
PLAN = DataPlan((CellPlan("map", "follow_roads", 1.0, 2, "", ("follow a road",)),), 2)


def few(sets):
    """The support samples of `IN_BAND`, and as many again that are solved always or never."""
    return tuple(s for s in sets.support if int(s.question.rstrip("?").split()[-1]) < 8)


async def test_only_what_is_solved_sometimes_is_left_with_its_rate(wired, models):
    config, _, sets, _ = wired("unified")
    found = await screened(few(sets), 3, models.chat, LocalMapper(), config)
    assert sorted(s.question for s in found) == sorted(f"How many in {name}?" for name in IN_BAND)
    assert {(s.difficulty.pass_rate, s.difficulty.n, s.difficulty.policy_version) for s in found} == {(4 / 9, 9, 3)}
    assert [request.n for request in models.chat.requests] == [9] * len(few(sets))


async def test_guessing_among_options_is_no_ability(wired, models):
    config, _, sets, _ = wired("unified")
    models.wavering = lambda text, request: [f"answer: {'ABBB'[place % 4]}" for place in range(request.n)]
    choice = [replace(few(sets)[0], options=("3", "4"), answer=replace(few(sets)[0].answer, kind="choice", value="A"))]
    assert await screened(choice, 0, models.chat, LocalMapper(), config) == ()


async def test_a_student_that_is_down_is_an_outage_and_no_empty_band(wired, models):
    config, _, sets, _ = wired("unified")
    models.wavering = lambda text, request: ModelUnavailable("models.student: did not answer")
    with pytest.raises(ModelUnavailable, match="the student answered 0 of 40 samples"):
        await screened(sets.support, 0, models.chat, LocalMapper(), config)


async def test_the_teacher_lists_skills_of_what_is_in_the_band_only(wired, models):
    _, _, sets, stages = wired("unified")
    supplied = await stages.supply(BASE, PLAN, 1)
    assert len(supplied.samples) == 2
    assert models.asked["student"] == 9 * len(sets.support)
    assert models.asked["lister"] == sum(i % 3 == 1 for i in range(20)) * 2


async def test_one_policy_is_screened_once_and_another_anew_but_no_sample_is_labelled_twice(wired, models):
    _, run, sets, stages = wired("unified")
    for index, policy in enumerate((BASE, BASE, LATER), 1):
        await stages.supply(policy, PLAN, index)
        run.round(index).save_samples(())
    assert models.asked["student"] == 2 * 9 * len(sets.support)
    assert len({s.id for s in sets.support}) > models.asked["lister"] == 14


async def test_a_resumed_run_asks_the_journal_for_the_same_answers(wired, models):
    drawn = []
    for index in (1, 2):
        _, run, _, stages = wired("unified")
        for earlier in range(1, index):
            run.round(earlier).save_samples(())
        models.chat.requests.clear()
        await stages.supply(BASE, PLAN, index)
        drawn.append([request for request in models.chat.requests if request.role == "student"])
    assert drawn[0] == drawn[1]
    assert {(role, stage) for role, stage, _ in models.doors if stage == "support"} == {
        ("student", "support"),
        ("skill_analyst", "support"),
    }


async def test_with_an_empty_band_nothing_is_found_and_nothing_listed(wired, models):
    models.wavering = lambda text, request: ["answer: 4"] * request.n
    _, _, _, stages = wired("unified")
    supplied = await stages.supply(BASE, PLAN, 1)
    assert supplied.by_supplier["retrieve"].accepted == 0
    assert supplied.shortfall == {"map/follow_roads": 2}
    assert "lister" not in models.asked
