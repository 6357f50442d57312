import json
from typing import Any

import pytest
from builders import FakeChat, make_sample, silent_chat

from dpe_ray.diagnose.missing import MissingSettings, find_missing_skills
from dpe_ray.errors import BadRequest
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import ErrorRecord, MistakeLocation

ITEM = make_sample("Which month sold least?", "B", options=("June", "May"), category="chart_graph")
STEPS = ("I look for the lowest bar.", "It is labelled Dec.", "So June.")
FOUND = ErrorRecord(ITEM.id, "chart_graph", STEPS, "A", MistakeLocation("answer_switch", 2, "found"), ())
GOOD = {"name": "match_bar_to_label", "skill": "match each bar of a chart to its label", "weight": 2.0}
OTHER = {"name": "Compare Heights", "skill": "compare the heights of bars", "weight": 6.0}
THIRD = {"name": "read_axis", "skill": "read the axis of a chart", "weight": 1.0}


def reply(*skills: dict[str, Any], kind: str = "perception") -> str:
    return json.dumps({"skills": skills, "evidence": " It is labelled Dec. ", "error_kind": kind})


async def find(analyst: FakeChat, error: ErrorRecord = FOUND, **settings: Any) -> ErrorRecord:
    (found,) = await find_missing_skills(
        [error],
        {ITEM.id: ITEM},
        analyst,
        LocalMapper(),
        Taxonomy({"chart_graph": ("read_axis",)}),
        workers=(1, 1),
        concurrency=4,
        settings=MissingSettings(**settings),
    )
    return found


async def test_the_analyst_sees_everything_with_the_located_step_marked() -> None:
    analyst = FakeChat(lambda r: reply(GOOD))
    await find(analyst)
    (message,) = analyst.requests[0].messages
    shown = message.text.partition("Skills wanted:")[2]
    assert message.images == ITEM.images
    for part in (ITEM.question, "(B) May", "Reference answer: B", "Student's answer: A", "- read_axis"):
        assert part in shown
    assert "\n1. I look" in shown
    assert "\n>> 2. It is labelled" in shown
    assert "\n3. So June." in shown


async def test_one_skill_mode_gives_exactly_one_skill_with_evidence_and_kind() -> None:
    found = await find(FakeChat(lambda r: reply(GOOD)))
    (skill,) = found.skills
    assert (skill.name, skill.text, skill.weight) == (GOOD["name"], GOOD["skill"], 1.0)
    assert (found.evidence, found.error_kind, found.dropped) == ("It is labelled Dec.", "perception", "")


async def test_multi_skill_mode_gives_two_or_three_whose_weights_sum_to_one() -> None:
    found = await find(FakeChat(lambda r: reply(GOOD, OTHER)), most=3)
    assert [(s.name, s.weight) for s in found.skills] == [("match_bar_to_label", 0.25), ("compare_heights", 0.75)]


@pytest.mark.parametrize(
    ("most", "skills"), [(1, (GOOD, OTHER)), (3, (GOOD,)), (3, (GOOD, GOOD)), (2, (GOOD, OTHER, THIRD))]
)
async def test_a_wrong_number_of_skills_is_refused(most: int, skills: tuple[dict[str, Any], ...]) -> None:
    found = await find(FakeChat(lambda r: reply(*skills)), most=most)
    assert found.skills == ()
    assert "number: give" in found.dropped


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"skill": "find May in a calendar"}, "leak"),
        ({"name": "find_may"}, "leak"),
        ({"name": "image_understanding"}, "generic"),
        ({"skill": "word " * 16}, "long"),
    ],
)
async def test_an_unusable_skill_is_retried_once_with_the_reason_then_dropped_with_it(
    change: dict[str, str], reason: str
) -> None:
    analyst = FakeChat(lambda r: reply(GOOD | change))
    found = await find(analyst)
    assert len(analyst.requests) == 2
    assert reason in analyst.requests[1].messages[-1].text
    assert found.skills == ()
    assert found.dropped.startswith("unusable")
    assert reason in found.dropped


async def test_a_second_reply_that_is_usable_counts() -> None:
    analyst = FakeChat(lambda r: reply(GOOD if len(r.messages) > 1 else GOOD | {"name": "find_may"}))
    assert (await find(analyst)).skills[0].name == "match_bar_to_label"


async def test_broken_json_is_retried_once_and_an_outage_is_named() -> None:
    broken = FakeChat(lambda r: "the student misread it")
    assert (await find(broken)).dropped.startswith("unusable")
    assert len(broken.requests) == 2
    assert (await find(silent_chat())).dropped.startswith("outage")
    refusing = FakeChat(lambda r: BadRequest("refused (401)"))
    assert (await find(refusing)).dropped == "outage: refused (401)"


async def test_without_localisation_no_step_is_marked() -> None:
    analyst = FakeChat(lambda r: reply(GOOD))
    await find(analyst, localise=False)
    assert ">>" not in analyst.requests[0].messages[0].text.partition("Skills wanted:")[2]


async def test_without_skill_analysis_the_wrong_step_itself_is_the_query_and_nobody_is_asked() -> None:
    analyst = FakeChat(lambda r: reply(GOOD))
    found = await find(analyst, analyse=False)
    assert analyst.requests == []
    assert found.skills[0].text == "It is labelled Dec."
    lost = ErrorRecord(ITEM.id, "chart_graph", STEPS, "A", MistakeLocation("answer_switch", None, "abstained"), ())
    assert (await find(analyst, lost, analyse=False)).dropped.startswith("no step")


async def test_an_unreadable_rationale_never_reaches_the_analyst() -> None:
    analyst = FakeChat(lambda r: reply(GOOD))
    unread = ErrorRecord(ITEM.id, "chart_graph", (), "", MistakeLocation("answer_switch", None, "unparsable"), ())
    assert (await find(analyst, unread)).dropped.startswith("unparsable")
    assert analyst.requests == []
