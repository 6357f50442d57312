from collections import Counter
from itertools import combinations, pairwise
from random import Random

import imagehash
import numpy as np
import pytest

from dpe_ray.micro.world import (
    CATEGORIES,
    CATEGORY_OF,
    SKILLS,
    Scene,
    ask,
    cell_labels,
    draw,
    error_type,
    final_answer,
    make_scene,
    skills_for,
    solve,
    wrong_item,
)
from dpe_ray.micro.world.text_dense import SPLITS, handwriting

RULES = [(skill.name, rule.name) for skill in SKILLS.values() for rule in skill.rules]


def _asked(skill: str, num: int, seed: int = 0):
    rng = Random(f"{seed} {skill}")
    for turn in range(num):
        scene = make_scene(CATEGORY_OF[skill], turn % 3 + 1, rng)
        yield scene, ask(scene, skill, rng)


def test_world_has_ten_categories_of_two_or_three_skills():
    assert len(CATEGORIES) >= 10
    assert len(SKILLS) >= 20
    assert {len(skills_for(category)) for category in CATEGORIES} <= {2, 3}


@pytest.mark.parametrize("skill", SKILLS)
def test_solve_gives_back_every_asked_item(skill):
    for scene, item in _asked(skill, 60):
        assert solve(scene, item.question, item.options) == (skill, item)
        assert solve(scene, item.question) == (skill, item)


@pytest.mark.parametrize("skill", SKILLS)
def test_all_paraphrases_have_the_same_answer(skill):
    for scene, item in _asked(skill, 20):
        found = SKILLS[skill].match(item.question)
        assert found is not None
        for phrasing in SKILLS[skill].phrasings:
            solved = solve(scene, phrasing.format(**found[1]).upper(), item.options)
            assert solved is not None
            assert solved[1].completion() == item.completion()


@pytest.mark.parametrize("skill", SKILLS)
def test_right_text_has_no_error_and_is_short(skill):
    for scene, item in _asked(skill, 30):
        assert error_type(scene, item.question, item.completion(), item.options).error == "none"
        assert final_answer(item.completion()) == item.answer.lower()
        assert len(item.completion().split()) <= 28


@pytest.mark.parametrize(("skill", "rule"), RULES)
def test_wrong_rule_differs_from_the_truth_and_is_named_by_its_type(skill, rule):
    error = next(r.error for r in SKILLS[skill].rules if r.name == rule)
    outcomes = Counter()
    for scene, item in _asked(skill, 100):
        wrong = wrong_item(scene, item, rule)
        if wrong is None:
            outcomes["inapplicable"] += 1
            continue
        outcomes["differs"] += wrong.answer != item.answer
        outcomes["named"] += error_type(scene, item.question, wrong.completion(), item.options).error == error
    applied = 100 - outcomes["inapplicable"]
    assert applied >= 80
    assert outcomes["differs"] >= 0.95 * applied
    assert outcomes["named"] >= 0.95 * applied


def test_choice_letters_follow_the_given_order_of_options():
    scene, item = next(_asked("tile_pattern", 1))
    turned = item.options[::-1]
    solved = solve(scene, item.question, turned)
    assert solved is not None
    assert turned["ABCD".index(solved[1].answer)] == item.options["ABCD".index(item.answer)]


def test_unknown_questions_and_impossible_arguments_are_not_solved():
    scene = make_scene("chart_graph", 1, Random(0))
    assert solve(scene, "What is the meaning of this chart?") is None
    assert solve(scene, "How much taller is the black bar than the red bar?") is None


def test_unparsable_text_is_an_error_of_type_other():
    scene, item = next(_asked("count_shape", 1))
    assert error_type(scene, item.question, "three, I think").error == "other"
    assert final_answer("three, I think") == ""


@pytest.mark.parametrize("category", CATEGORIES)
def test_scene_survives_json_and_draws_the_same_pixels(category):
    scene = make_scene(category, 2, Random(5))
    copy = Scene.from_json(scene.to_json())
    assert copy == scene
    assert np.array_equal(np.asarray(draw(copy)), np.asarray(draw(scene)))
    assert draw(scene).size == (64, 64)
    assert len(cell_labels(scene)) == 16


@pytest.mark.parametrize("category", CATEGORIES)
def test_scenes_of_one_category_are_distinct_to_a_perceptual_hash(category):
    rng = Random(1)
    pictures = [draw(make_scene(category, turn % 3 + 1, rng)) for turn in range(40)]
    assert len({picture.tobytes() for picture in pictures}) == 40
    hashes = [imagehash.phash(picture) for picture in pictures]
    distances = [p - q for p, q in combinations(hashes, 2)]
    assert np.mean([distance > 4 for distance in distances]) > 0.9


def test_categories_look_different():
    rng = Random(2)
    looks = {}
    for category in CATEGORIES:
        pixels = np.stack([np.asarray(draw(make_scene(category, 1, rng)), dtype=float) for _ in range(30)])
        looks[category] = np.concatenate([pixels.mean((0, 1, 2)), pixels.std((1, 2)).mean(0)])
    assert min(np.linalg.norm(looks[p] - looks[q]) for p, q in combinations(looks, 2)) > 12


def test_handwriting_splits_share_no_picture():
    bounds = sorted(SPLITS.values())
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 1797
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    sets = [{picture.tobytes() for group in handwriting(split).values() for picture in group} for split in SPLITS]
    assert all(not (p & q) for p, q in combinations(sets, 2))
