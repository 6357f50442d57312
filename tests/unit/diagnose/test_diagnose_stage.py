import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import FakeChat, make_sample

from dpe_ray.diagnose.routes import RouteSettings
from dpe_ray.diagnose.stage import diagnose
from dpe_ray.diagnose.votes import VoteSettings
from dpe_ray.errors import BadRequest, ConfigError, ModelUnavailable, PoolError
from dpe_ray.ports import ChatRequest
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import Diagnosis, ErrorRecord, Graded, MistakeLocation, Need, Sample

PROBE = tuple(
    make_sample(f"{skill} {i}?", "red", category=category)
    for category, skill in (("map", "find_way"), ("map", "read_name"), ("medical", "spot_mark"))
    for i in range(10)
)
QUESTION = {s.id: s.question for s in PROBE}


def student(request: ChatRequest) -> str:
    """Right in the first seven of every ten."""
    return f"1. look\nanswer: {'red' if int(QUESTION[request.item].split()[1][:-1]) < 7 else 'blue'}"


def analyst(request: ChatRequest) -> str:
    return json.dumps({"skill": QUESTION[request.item].split()[0]})


def judge(request: ChatRequest) -> str:
    return json.dumps({"correct": False, "error_type": "reasoning", "description": "It took the wrong turn."})


async def run(probe: tuple[Sample, ...] = PROBE, **given: Any) -> tuple[Diagnosis, tuple[Graded, ...]]:
    doors = {"student": FakeChat(student), "judge": FakeChat(judge), "analyst": FakeChat(analyst)}
    doors |= {name: given.pop(name) for name in list(given) if name in doors}
    return await diagnose(
        3,
        probe,
        doors["student"],
        doors["judge"],
        doors["analyst"],
        LocalMapper(),
        taxonomy=Taxonomy({}),
        max_tokens=40,
        failures_per_cell=2,
        workers=(1, 1),
        concurrency=8,
        **given,
    )


async def test_cells_count_judged_items_by_category_and_skill() -> None:
    diagnosis, graded = await run()
    assert [(c.cell, c.attempts, c.correct) for c in diagnosis.cells] == [
        ("map/find_way", 10, 7),
        ("map/read_name", 10, 7),
        ("medical/spot_mark", 10, 7),
    ]
    assert all(c.low < 0.7 < c.high for c in diagnosis.cells)
    assert (diagnosis.policy_version, diagnosis.probed, diagnosis.not_judged) == (3, 30, 0)
    assert [g.sample.id for g in graded] == [s.id for s in PROBE]
    assert graded[0].sample.skills == ("find_way",)


async def test_skills_that_rows_state_are_taken_and_nobody_is_asked_for_them() -> None:
    door = FakeChat(analyst)
    stated = tuple(replace(s, skills=("Find Place", "other")) if s.category == "medical" else s for s in PROBE)
    diagnosis, graded = await run(stated, analyst=door)
    assert {c.cell: c.attempts for c in diagnosis.cells} == {
        "map/find_way": 10, "map/read_name": 10, "medical/find_place": 10
    }  # fmt: skip
    assert {request.item for request in door.requests} == {s.id for s in PROBE if s.category == "map"}
    assert graded[-1].sample.skills == ("find_place",)
    all_stated = tuple(replace(s, skills=("a_skill",)) for s in PROBE)
    silent = FakeChat(analyst)
    await run(all_stated, analyst=silent)
    assert silent.requests == []


async def test_only_failures_are_attributed_and_some_are_kept_as_examples() -> None:
    door = FakeChat(judge)
    diagnosis, _ = await run(judge=door)
    assert len(door.requests) == 9
    assert diagnosis.cells[0].error_types == {"reasoning": 3}
    assert len(diagnosis.cells[0].failures) == 2
    assert diagnosis.cells[0].failures[0].attribution.description == "It took the wrong turn."


async def test_an_outage_of_the_student_lowers_n_and_nothing_else() -> None:
    silent = {s.id for s in PROBE[:5]}
    half = FakeChat(lambda r: ModelUnavailable("down") if r.item in silent else student(r))
    diagnosis, _ = await run(student=half)
    assert diagnosis.not_judged == 5
    assert (diagnosis.cells[0].attempts, diagnosis.cells[0].correct) == (5, 2)


async def test_an_outage_of_judge_or_analyst_leaves_items_counted_and_unexplained() -> None:
    down = ModelUnavailable("down")
    lost = {s.id for s in PROBE if s.question.startswith("find_way")}
    judge_half = FakeChat(lambda r: down if r.item in lost else judge(r))
    analyst_half = FakeChat(lambda r: down if r.item in {PROBE[0].id, PROBE[9].id} else analyst(r))
    diagnosis, _ = await run(judge=judge_half, analyst=analyst_half)
    assert {c.cell: c.error_types for c in diagnosis.cells} == {
        "map/find_way": {"not_judged": 2},
        "map/read_name": {"reasoning": 3},
        "map/unspecified": {"not_judged": 1},
        "medical/spot_mark": {"reasoning": 3},
    }
    assert sum(c.correct for c in diagnosis.cells) == 21
    assert diagnosis.unexplained == 4  # three failures, and of the two items without a skill one is among them


DOWN = (ModelUnavailable("the teacher is down"), BadRequest("the teacher refused (401)"))


@pytest.mark.parametrize("error", DOWN)
@pytest.mark.parametrize(
    ("who", "told"), [("analyst", "for 30 of 30 .*roles.skill_analyst"), ("judge", "for 9 of 9 .*roles.judge")]
)
async def test_a_teacher_that_does_not_answer_is_no_diagnosis(error: Exception, who: str, told: str) -> None:
    with pytest.raises(ModelUnavailable, match=told) as raised:
        await run(**{who: FakeChat(lambda r: error)})
    assert str(error) in str(raised.value)


@pytest.mark.parametrize("error", DOWN)
async def test_a_reader_or_an_error_analyst_that_does_not_answer_is_no_diagnosis(error: Exception) -> None:
    async def unread(failed: Sequence[Graded]) -> list[ErrorRecord]:
        lost = MistakeLocation("answer_switch", None, "unavailable", unanswered=str(error))
        return [replace(found, location=lost) for found in await locate(failed)]

    with pytest.raises(ModelUnavailable, match=r"9 of 9 .*roles\.reader"):
        await run(analyst=FakeChat(error_analyst), explain=False, locate=unread)
    with pytest.raises(ModelUnavailable, match="missing skills for 9 of 9 "):
        await run(analyst=FakeChat(lambda r: error), explain=False, locate=locate)


async def test_a_teacher_that_talks_garbage_did_answer() -> None:
    garbage = FakeChat(lambda r: "no idea")
    diagnosis, _ = await run(judge=garbage, analyst=garbage)
    assert {c.skill for c in diagnosis.cells} == {"unspecified"}
    assert diagnosis.unexplained == 0


@pytest.mark.parametrize("reply", ["no idea", '{"correct": false, "error_type": "bad luck", "description": null}'])
async def test_an_unclear_judge_gives_the_error_type_other(reply: str) -> None:
    diagnosis, _ = await run(judge=FakeChat(lambda r: reply))
    assert diagnosis.cells[0].error_types == {"other": 3}


async def test_an_item_that_was_never_judged_keeps_its_category_in_the_diagnosis() -> None:
    silent = {s.id for s in PROBE if s.category == "medical"}
    door = FakeChat(lambda r: ModelUnavailable("down") if r.item in silent else student(r))
    diagnosis, _ = await run(student=door)
    assert diagnosis.by_category()["medical"] == (0, 0)


@pytest.mark.parametrize("answered", [0, 14])
async def test_a_student_that_hardly_answers_is_no_diagnosis(answered: int) -> None:
    heard = {s.id for s in PROBE[:answered]}
    door = FakeChat(lambda r: student(r) if r.item in heard else ModelUnavailable("down"))
    with pytest.raises(ModelUnavailable, match=rf"{answered} of 30 probe items could be judged \(down\)"):
        await run(student=door)


async def test_an_empty_probe_is_refused() -> None:
    with pytest.raises(PoolError):
        await run(())


async def test_paraphrased_skills_share_a_cell() -> None:
    said = {"find_way": "find_the_way", "read_name": "reading_names", "spot_mark": "spot_mark"}

    def vary(request: ChatRequest) -> str:
        skill, number = QUESTION[request.item][:-1].split()
        return json.dumps({"skill": said[skill] if int(number) % 3 else skill})

    diagnosis, _ = await run(analyst=FakeChat(vary))
    assert len(diagnosis.cells) == 3
    assert {c.attempts for c in diagnosis.cells} == {10}


async def locate(failed: Sequence[Graded]) -> list[ErrorRecord]:
    return [
        ErrorRecord(g.sample.id, g.sample.category, ("look",), "blue", MistakeLocation("random", 1, "found"), ())
        for g in failed
    ]


def error_analyst(request: ChatRequest) -> str:
    if "You are the skill analyst" in request.messages[0].text:
        return analyst(request)
    skill = {"name": "finding the ways", "skill": "follow a way through a map", "weight": 1}
    return json.dumps({"skills": [skill], "evidence": "look", "error_kind": "reasoning"})


async def test_wrong_answers_are_located_and_their_missing_skills_take_the_names_of_the_cells() -> None:
    diagnosis, _ = await run(analyst=FakeChat(error_analyst), locate=locate)
    assert len(diagnosis.errors) == 9
    assert {(e.category, e.skills[0].name) for e in diagnosis.errors} == {
        ("map", "find_way"),
        ("medical", "finding_the_ways"),
    }
    assert diagnosis.errors[0].skills[0].text == "follow a way through a map"


async def test_unexplained_only_the_errors_are_analysed_and_nothing_else_is_asked_of_judge_and_analyst() -> None:
    judged, analysed = FakeChat(judge), FakeChat(error_analyst)
    diagnosis, _ = await run(judge=judged, analyst=analysed, explain=False, locate=locate)
    assert [(c.cell, c.attempts, c.correct) for c in diagnosis.cells] == [
        ("map/unspecified", 20, 14),
        ("medical/unspecified", 10, 7),
    ]
    assert (len(judged.requests), len(analysed.requests)) == (0, 9)
    assert {e.skills[0].name for e in diagnosis.errors} == {"finding_the_ways"}


async def test_routes_fill_needs_and_learnability_of_every_cell(tmp_path: Path) -> None:
    def sampled(request: ChatRequest) -> str | list[str]:
        if request.n == 1:
            return student(request)
        said = QUESTION[request.item]
        return ["answer: red"] * 4 + [f"answer: {said.split()[0]} {said.split()[1]}"] * 4

    diagnosis, _ = await run(student=FakeChat(sampled), routes=RouteSettings(str(tmp_path)))
    assert {c.need for c in diagnosis.cells} == {Need.ELICITABLE}
    assert {tuple(c.needs.items()) for c in diagnosis.cells} == {(("elicitable", 3),)}
    assert {c.learnability for c in diagnosis.cells} == {8 / 7 * 0.25}


async def test_without_routes_nothing_is_sampled_and_needs_stay_unknown() -> None:
    door = FakeChat(student)
    diagnosis, _ = await run(student=door)
    assert len(door.requests) == len(PROBE)
    assert {(c.need, c.learnability) for c in diagnosis.cells} == {(None, None)}


async def test_votes_take_the_place_of_gold_answers() -> None:
    unlabelled = tuple(replace(s, answer=replace(s.answer, value="")) for s in PROBE)
    asked = {s.id: s.question for s in unlabelled}

    def unsure(request: ChatRequest) -> list[str]:
        hard = int(asked[request.item].split()[1][:-1]) >= 7
        return ["answer: red"] * (4 if hard else 8) + ["answer: blue"] * (4 if hard else 0)

    def named(request: ChatRequest) -> str:
        return json.dumps({"skill": request.messages[0].text.partition("Question: ")[2].split()[0]})

    diagnosis, graded = await run(
        unlabelled, student=FakeChat(unsure), analyst=FakeChat(named), votes=VoteSettings(k=8)
    )
    assert [(c.cell, c.attempts, c.correct) for c in diagnosis.cells] == [
        ("map/find_way", 10, 7),
        ("map/read_name", 10, 7),
        ("medical/spot_mark", 10, 7),
    ]
    assert {g.verdict.grader for g in graded} == {"vote@1"}
    assert graded[0].sample.answer.value == "red"


async def test_votes_do_not_go_with_what_needs_gold_answers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await run(votes=VoteSettings(), routes=RouteSettings(str(tmp_path)))
    with pytest.raises(ConfigError):
        await run(votes=VoteSettings(), locate=locate)
