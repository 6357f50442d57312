import re
from random import Random

import pytest

from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.micro.asked import read_prompt
from dpe_ray.micro.world import CATEGORY_OF, SKILLS, Item, Scene, ask, final_answer, make_scene
from dpe_ray.micro.world.fine_steps import FINE_CUE, fine_completion, implied_answer, retell, tell
from dpe_ray.micro.world.ways import WAYS

LOOKS = {"shape_colour", "spot_cell", "hairline_count", "read_digit", "time_of_day", "speck_count", "tile_pattern",
         "object_at"}  # fmt: skip
"""Skills with one fact, which is the answer."""


def items(skill: str, num: int = 12) -> list[tuple[Scene, Item]]:
    rng = Random(skill)
    scenes = [make_scene(CATEGORY_OF[skill], 1 + number % 3, rng) for number in range(num)]
    return [(scene, ask(scene, skill, rng)) for scene in scenes]


def value(item: Item) -> str:
    return item.options["ABCD".index(item.answer)] if item.options else item.answer


def test_every_skill_has_a_way():
    assert set(WAYS) == set(SKILLS)


@pytest.mark.parametrize("skill", SKILLS)
def test_fine_steps_end_at_the_right_answer_and_split_into_themselves(skill):
    for scene, item in items(skill):
        text = fine_completion(item, scene)
        assert final_answer(text) == item.answer.lower()
        told = tell(item, scene)
        assert tuple(step.text for step in split_steps(text)) == told.steps
        assert told.value == value(item)


@pytest.mark.parametrize("skill", sorted(set(SKILLS) - LOOKS))
def test_whatever_takes_more_than_a_look_takes_five_steps_or_more(skill):
    assert min(len(tell(item, scene).steps) for scene, item in items(skill)) >= 5


@pytest.mark.parametrize("skill", SKILLS)
def test_a_rationale_read_step_by_step_never_leads_elsewhere_than_to_its_answer(skill):
    for scene, item in items(skill):
        steps = tell(item, scene).steps
        led = [implied_answer(item.question, steps[:t]) for t in range(len(steps) + 1)]
        assert led[0] is None
        assert set(led) <= {None, value(item)}
        assert led[-1] == value(item)


@pytest.mark.parametrize("skill", SKILLS)
def test_a_short_rationale_with_all_facts_in_one_step_is_read_too(skill):
    for _, item in items(skill):
        assert implied_answer(item.question, [item.target, item.facts_text]) == value(item)
        assert implied_answer(item.question, [item.target, item.facts_text, item.conclusion]) == value(item)


@pytest.mark.parametrize("skill", SKILLS)
def test_one_wrong_step_of_working_changes_all_that_follows_from_it_and_nothing_before(skill):
    rng, slips, refused = Random(0), 0, 0
    for scene, item in items(skill):
        right = tell(item, scene)
        for step in range(2 + right.num_facts, len(right.steps) + 1):
            try:
                told = tell(item, scene, step, rng)
            except ValueError:
                refused += 1
                continue
            slips += 1
            assert told.steps[: step - 1] == right.steps[: step - 1]
            assert told.steps[step - 1] != right.steps[step - 1]
            led = [implied_answer(item.question, told.steps[:t]) for t in range(len(told.steps) + 1)]
            assert set(led[:step]) <= {None, right.value}
            assert set(led[step:]) == {told.value} != {right.value}
    assert slips >= max(3, refused // 10)


def test_a_wrong_step_is_consistent_with_the_sums_behind_it():
    scene = Scene("text_dense", 1, {"a1": "4", "b1": "5", "split": "train"}, 0)
    item = next(i for i in (ask(scene, "digit_sum", Random(seed)) for seed in range(9)) if i.target == "a1 plus b1")
    told = tell(item, scene, 4, Random(1))
    assert told.steps[:3] == ("a1 plus b1", "a1 4", "b1 5")
    start = int(told.steps[3].split()[-1])
    assert start in (3, 5)
    assert told.steps[4:] == (f"{start} + 5 = {start + 5}", f"makes {start + 5}")


def test_a_step_that_cannot_be_wrong_says_so():
    scene, item = items("digit_sum")[0]
    for step in (1, 7):
        with pytest.raises(ValueError, match="wrong"):
            tell(item, scene, step)


@pytest.mark.parametrize("skill", SKILLS)
def test_what_was_told_can_be_told_again_with_the_same_slip(skill):
    for scene, item in items(skill):
        right = tell(item, scene)
        assert retell(item.question, right.steps) == right
        for step in range(2, len(right.steps) + 1):
            try:
                slipped = tell(item, scene, step, Random(step))
            except ValueError:
                with pytest.raises(ValueError, match=r"wrong|nothing follows"):
                    retell(item.question, right.steps, step, Random(step))
                continue
            assert retell(item.question, right.steps, step, Random(step)) == slipped


def test_telling_again_takes_the_facts_as_they_were_stated():
    stated = ("a1 plus b1", "a1 7", "b1 5", "start with 7", "7 + 5 = 12", "makes 12")
    question = "What is the sum of the digits at a1 and b1?"
    assert retell(question, stated).value == "12"
    slipped = retell(question, stated, 5)
    assert slipped.steps[:4] == stated[:4]
    assert slipped.value in ("11", "13")
    assert slipped.steps[4:] == (f"7 + 5 = {slipped.value}", f"makes {slipped.value}")


@pytest.mark.parametrize("steps", [
    (), ("a1 plus b1",), ("a1 plus b1", "a1 7", "b1 5", "makes 12"),
    ("a1 plus b1", "a1 7", "b1 5", "start with 7", "7 + 5 = 13", "makes 13"),
    ("a1 plus b1", "a1 7 b1 5", "start with 7", "7 + 5 = 12", "makes 12"),
])  # fmt: skip
def test_only_a_faultless_rationale_in_fine_steps_is_told_again(steps):
    with pytest.raises(ValueError, match="no faultless working"):
        retell("What is the sum of the digits at a1 and b1?", steps)


def test_text_that_says_nothing_of_the_world_implies_nothing():
    assert implied_answer("How many stars are there?", ["I like stars", "they are pretty"]) is None
    assert implied_answer("Who painted this?", ["b2 red star", "b2 makes 1"]) is None


def test_the_oracle_finds_the_question_before_the_fine_cue():
    asked = read_prompt(f"Name the tallest bar.\n(A) red\n(B) blue\n{FINE_CUE}")
    assert (asked.question, asked.options) == ("Name the tallest bar.", ("red", "blue"))
    assert re.match(r"Think in fine numbered steps", FINE_CUE)
