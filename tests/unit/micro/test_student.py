from pathlib import Path
from random import Random

import pytest
import torch

from dpe_ray.micro import student
from dpe_ray.micro.lessons import IGNORE, describe_lesson, encode, pixels, question_lesson, world_texts
from dpe_ray.micro.measure import measure_skill
from dpe_ray.micro.planted import PLANS, TRUNK, UNSEEN, UNSHOWN
from dpe_ray.micro.pretrain import load_student
from dpe_ray.micro.student import PROMPT_SUFFIX, build_model, build_processor, render_prompt, save_student
from dpe_ray.micro.world import CATEGORY_OF, SKILLS, ask, draw, error_type, make_scene, solve, wrong_item


@pytest.fixture(scope="module")
def processor():
    return build_processor(world_texts(0, num=30))


@pytest.fixture(scope="module")
def model(processor):
    return build_model(processor, seed=0).eval()


def _chat(processor, scene, item):
    content = [{"type": "image", "image": draw(scene)}]
    content.append({"type": "text", "text": render_prompt(item.question, item.options)})
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def test_prompt_has_question_options_and_instruction():
    assert render_prompt("Which?", ("x", "y")) == "Which?\n(A) x\n(B) y" + PROMPT_SUFFIX


def test_any_text_survives_the_tokenizer(processor):
    for text in ("1. count star\n2. a1 b3\n3. makes 2\nanswer: 2", "z\u00fcrich 345 (X)?\t\u2603", " two  spaces "):
        assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_every_right_completion_is_at_most_28_tokens(processor):
    rng = Random(3)
    for skill, category in CATEGORY_OF.items():
        item = ask(make_scene(category, 3, rng), skill, rng)
        assert len(processor.tokenizer(item.completion())["input_ids"]) <= 28


def test_lessons_are_encoded_as_the_chat_template_and_processor_do(processor):
    rng = Random(4)
    for skill in ("tile_pattern", "count_shape"):
        scene = make_scene(CATEGORY_OF[skill], 1, rng)
        item = ask(scene, skill, rng)
        chat = _chat(processor, scene, item)
        lesson = question_lesson(skill, TRUNK, rng)._replace(
            picture=draw(scene), prompt=render_prompt(item.question, item.options), completion=item.completion()
        )
        batch = encode([lesson], processor)
        num_prompt = chat["input_ids"].shape[1]
        assert torch.equal(batch.input_ids_BT[:, :num_prompt], chat["input_ids"])
        assert torch.allclose(pixels([draw(scene)]), chat["pixel_values"], atol=1e-5)
        wanted = batch.targets_BT[batch.targets_BT != IGNORE]
        assert processor.tokenizer.decode(wanted) == item.completion() + "<|end|>"


def test_saved_student_loads_with_hub_key_names(model, processor, tmp_path):
    from safetensors import safe_open
    from transformers import AutoModelForImageTextToText, AutoProcessor

    save_student(model, processor, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tower = [key for key in file.keys() if key.startswith("vision_tower.")]  # noqa: SIM118 - not a dict
    assert tower
    assert all(key.startswith("vision_tower.vision_model.") for key in tower)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), loaded.parameters(), strict=True))
    assert AutoProcessor.from_pretrained(tmp_path).image_token == "<image>"
    assert loaded.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert (tmp_path / "model.safetensors").stat().st_size < 16e6


def test_student_generates_from_a_chat(model, processor):
    rng = Random(5)
    scene = make_scene("medical", 1, rng)
    inputs = _chat(processor, scene, ask(scene, "spot_cell", rng))
    output = model.generate(**inputs, max_new_tokens=3)
    assert output.shape[1] <= inputs["input_ids"].shape[1] + 3


def test_same_seed_gives_the_same_weights(processor):
    first, second = build_model(processor, seed=1), build_model(processor, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_same_seed_gives_the_same_lessons():
    first, second = Random(6), Random(6)
    for make in (describe_lesson, lambda rng: question_lesson("digit_sum", PLANS["A"], rng)):
        p, q = make(first), make(second)
        assert (p.prompt, p.completion, p.picture.tobytes()) == (q.prompt, q.completion, q.picture.tobytes())


@pytest.mark.parametrize("name", PLANS)
def test_plan_names_real_rules_of_all_four_error_types(name):
    plan = PLANS[name]
    errors = {
        rule.error
        for skill, wanted in plan.misconceptions.items()
        for rule in SKILLS[skill].rules
        if rule.name == wanted
    }
    assert errors == {"misunderstanding", "visual_recognition", "calculation", "reasoning"}
    assert len(plan.misconceptions) >= 6
    assert not set(plan.misconceptions) & {*UNSHOWN, *UNSEEN}


def test_planted_lessons_follow_the_rule_at_the_planned_rate():
    plan, rng = PLANS["A"], Random(7)
    wrong = {0: [], 1: [], 2: []}
    for _ in range(600):
        scene = make_scene("map", 1, rng)
        item = ask(scene, "landmark_distance", rng)
        follows = rng.random() < plan.wrong_rate("landmark_distance", item.phrasing)
        wrong[item.phrasing].append(follows)
    assert sum(wrong[0]) / len(wrong[0]) < 0.5 < sum(wrong[1]) / len(wrong[1])


def test_judging_does_not_depend_on_any_plan():
    rng = Random(8)
    for plan in PLANS.values():
        for skill, rule in plan.misconceptions.items():
            scene = make_scene(CATEGORY_OF[skill], 3, rng)
            item = ask(scene, skill, rng)
            wrong = wrong_item(scene, item, rule)
            assert wrong is not None
            assert solve(scene, item.question, item.options) == (skill, item)
            assert error_type(scene, item.question, wrong.completion(), item.options).error != "none"


def test_shipped_student_is_sound_in_one_skill_and_misled_in_another():
    folder = Path(student.__file__).parent / "checkpoint"
    model, processor = load_student(folder)
    sound = measure_skill(model, processor, "side_of", seed=1, num_items=20, num_samples=1)
    misled = measure_skill(model, processor, "extreme_bar", seed=1, num_items=20, num_samples=4)
    assert sound.greedy_rate >= 0.85
    assert misled.greedy_rate <= 0.6
    assert misled.errors["misunderstanding"] >= 0.8
