import json

import pytest
from builders import FakeChat, make_sample, silent_chat

from dpe_ray.diagnose.skills import BATCH, Skills, name_skills, usable_skill
from dpe_ray.errors import BadRequest, ModelUnavailable
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.taxonomy import UNSPECIFIED, Taxonomy, canonical
from dpe_ray.types import Sample

SAMPLES = [make_sample(f"Question {i}?", category="map" if i % 2 else "medical") for i in range(40)]
NONE = Taxonomy({})


async def ask(samples: list[Sample], analyst: FakeChat, taxonomy: Taxonomy = NONE) -> Skills:
    return await name_skills(samples, analyst, LocalMapper(), taxonomy, workers=(1, 1), concurrency=4)


async def name(samples: list[Sample], analyst: FakeChat, taxonomy: Taxonomy = NONE) -> dict[str, str]:
    return (await ask(samples, analyst, taxonomy)).names


def known_in(text: str) -> list[str]:
    return [line.removeprefix("- ") for line in text.partition("Known skills:\n")[2].splitlines()]


async def test_every_item_gets_one_skill_in_snake_case() -> None:
    skills = await name(SAMPLES, FakeChat(lambda r: json.dumps({"skill": "Read Axis-Values"})))
    assert skills == {s.id: "read_axis_values" for s in SAMPLES}


async def test_later_items_are_shown_the_taxonomy_and_the_names_given_before() -> None:
    analyst = FakeChat(lambda r: json.dumps({"skill": f"find_{r.item[:2]}x"}))
    await name(SAMPLES, analyst, Taxonomy({"map": ("find_north",)}))
    maps = [known_in(r.messages[0].text) for r in analyst.requests if "Category: map" in r.messages[0].text]
    assert maps[:BATCH] == [["find_north"]] * BATCH
    assert all(len(known) > BATCH - 2 and known[0] == "find_north" for known in maps[BATCH:])


async def test_equal_probes_make_equal_requests_in_any_order() -> None:
    def ask_skill(request: object) -> str:
        return json.dumps({"skill": f"find_{request.item[:1]}x"})  # type: ignore[attr-defined]

    one, two = FakeChat(ask_skill), FakeChat(ask_skill)
    await name(SAMPLES, one)
    await name(SAMPLES[::-1], two)
    assert set(map(repr, one.requests)) == set(map(repr, two.requests))


@pytest.mark.parametrize("analyst", [silent_chat(), FakeChat(lambda r: "reading, I guess")])
async def test_an_analyst_that_is_down_or_unclear_leaves_the_skill_unspecified(analyst: FakeChat) -> None:
    assert set((await name(SAMPLES, analyst)).values()) == {UNSPECIFIED}


@pytest.mark.parametrize("error", [ModelUnavailable("it is down"), BadRequest("it refused (401)")])
async def test_items_that_the_analyst_did_not_answer_are_told_from_those_it_was_unclear_about(error: Exception) -> None:
    lost, unclear = SAMPLES[0].id, SAMPLES[1].id
    said = {lost: error, unclear: "reading, I guess"}
    skills = await ask(SAMPLES, FakeChat(lambda r: said.get(r.item, '{"skill": "read_axis"}')))
    assert {id_ for id_, skill in skills.names.items() if skill == UNSPECIFIED} == {lost, unclear}
    assert skills.unanswered == {lost: str(error)}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("count_objects", "count_objects"),
        ("countObjects", "count_objects"),
        ("", UNSPECIFIED),
        ("none", UNSPECIFIED),
        ("??", UNSPECIFIED),
        ("7", UNSPECIFIED),
        ("identify_red", UNSPECIFIED),
        ("a_b_c_d_e_f_g_h", UNSPECIFIED),
        ("Known one", "known_one"),
        ("say_which_colour", "say_which_colour"),
    ],
)
def test_names_that_say_nothing_or_hold_the_answer_are_refused(said: str, kept: str) -> None:
    assert usable_skill(said, make_sample(answer="red"), ("known_one",)) == kept


def test_the_text_of_the_right_option_counts_as_the_answer() -> None:
    sample = make_sample("Which?", "B", options=("cat", "dog"))
    assert usable_skill("recognise_dog", sample) == UNSPECIFIED
    assert usable_skill("recognise_cat", sample) == "recognise_cat"


async def test_a_name_that_serves_items_with_other_answers_is_no_leak() -> None:
    items = [make_sample(f"What time is it, {i}?", letter, options=("day", "night")) for i, letter in enumerate("AABB")]
    named = await name(items, FakeChat(lambda r: json.dumps({"skill": "time_of_day"})))
    assert set(named.values()) == {"time_of_day"}
    alone = await name(items[:1], FakeChat(lambda r: json.dumps({"skill": "time_of_day"})))
    assert set(alone.values()) == {UNSPECIFIED}


def test_canonical_names_are_stable() -> None:
    assert canonical(canonical("  Read the Map! ")) == canonical("read_the_map")
