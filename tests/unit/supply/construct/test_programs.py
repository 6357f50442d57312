import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from random import Random

import pytest

from dpe_ray.grading.rules import is_right_answer
from dpe_ray.supply.annotate.refusal import Refused
from dpe_ray.supply.construct.drawing import as_png
from dpe_ray.supply.construct.maker import Recipe, construct, read_params
from dpe_ray.supply.construct.options import same
from dpe_ray.supply.construct.registry import load_programs
from dpe_ray.supply.gates import check_format
from dpe_ray.taxonomy import load_taxonomy

PROGRAMS = load_programs()
SKILLS = [(name, ask) for name, program in PROGRAMS.items() for ask in program.skills]

BYTES = """
import hashlib, json
from random import Random
from dpe_ray.supply.construct.drawing import as_png
from dpe_ray.supply.construct.registry import load_programs
done = {}
for name, program in load_programs().items():
    if not program.on_image:
        params = program.sample(program.skills[0], 0.5, Random(1))
        done[name] = hashlib.sha256(as_png(program.make(params, Random(2), None).picture)).hexdigest()
print(json.dumps(done))
"""


def draw(program, seed=2):
    params = program.sample(program.skills[0], 0.5, Random(1))
    return hashlib.sha256(as_png(program.make(params, Random(seed), None).picture)).hexdigest()


def drawn(workshop, name, ask, difficulty, seed, **changes):
    """The first sample that can be drawn: only `draw` may refuse."""
    while True:
        try:
            return workshop.make(name, ask, difficulty, seed, **changes)
        except Refused as refused:
            if refused.gate != "draw":
                raise
            seed += 100


def test_eleven_of_the_twelve_categories_have_a_program():
    drawn = {category for program in PROGRAMS.values() for category in program.categories}
    assert set(load_taxonomy().categories) - drawn == {"natural_scene"}


@pytest.mark.parametrize(("name", "ask"), SKILLS)
def test_every_skill_is_confirmed_from_easy_to_hard(workshop, name, ask):
    for seed, difficulty in enumerate((0.0, 0.5, 1.0)):
        sample = drawn(workshop, name, ask, difficulty, seed)
        assert check_format(sample) is None
        assert sample.rationale


@pytest.mark.parametrize(("name", "ask"), SKILLS)
def test_a_wrong_label_is_refused(workshop, monkeypatch, name, ask):
    program = PROGRAMS[name]
    make = type(program).make

    def lie(self, params, rng, base):
        task = make(self, params, rng, base)
        wrong = next(text for text in task.wrong if not same(text, task.answer))
        return replace(task, answer=wrong, wrong=(task.answer, *task.wrong), aliases=())

    monkeypatch.setattr(type(program), "make", lie)
    with pytest.raises(Refused, match="the checker finds"):
        workshop.make(name, ask, 0.6, 1)


@pytest.mark.parametrize("name", [name for name, program in PROGRAMS.items() if program.on_image])
def test_an_edited_image_is_told_from_a_drawn_one(workshop, name):
    assert workshop.make(name, PROGRAMS[name].skills[0]).images[0].origin == "edit"
    assert workshop.make("triangle", "missing_angle").images[0].origin == "construct"


@pytest.mark.parametrize("name", [name for name, program in PROGRAMS.items() if program.on_image])
def test_an_editor_without_an_image_ends_its_slot(workshop, name):
    bare = replace(workshop.recipe(name, PROGRAMS[name].skills[0]), base=None)
    with pytest.raises(Refused, match="too small"):
        construct(PROGRAMS[name], bare, workshop.shelf, "mixed")


def test_equal_recipes_give_equal_bytes_in_one_process_and_in_two():
    here = {name: draw(program) for name, program in PROGRAMS.items() if not program.on_image}
    again = {name: draw(program) for name, program in PROGRAMS.items() if not program.on_image}
    other = subprocess.run(
        [sys.executable, "-c", BYTES],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert here == again == json.loads(other.stdout.splitlines()[-1])


def test_a_sample_is_the_same_whenever_it_is_made(workshop):
    assert workshop.make("city_map", "direction") == workshop.make("city_map", "direction")


def test_another_seed_gives_another_picture(workshop):
    recipes = [replace(workshop.recipe("tile_pattern", "count_colour"), seed=seed) for seed in (1, 2)]
    one, other = (construct(PROGRAMS["tile_pattern"], recipe, workshop.shelf, "artistic") for recipe in recipes)
    assert one.images[0].sha256 != other.images[0].sha256


@pytest.mark.parametrize(
    ("name", "ask", "changes"),
    [
        ("bar_chart", "read_value", {"levels": (1,) * 12}),
        ("bar_chart", "rank_values", {"levels": (1,) * 12}),
        ("number_table", "column_total", {"cells": ((0,) * 6,) * 12}),
        ("triangle", "missing_angle", {"alpha": 60, "beta": 60}),
        ("shape_count", "count_shapes", {"groups": ()}),
        ("arrow_graph", "shortest_path_length", {"arrows": ()}),
        ("formula", "finite_sum", {"a": 1, "b": 1, "k": 2}),
        ("wall_clock", "read_time", {"hour": 12, "minute": 0}),
        ("floor_plan", "total_area", {"widths": (2, 2, 2), "depths": (2, 2)}),
        ("floor_plan", "count_doors", {"doors": ()}),
        ("tile_pattern", "count_colour", {"symmetry": "none", "colours": ("red", "blue")}),
        ("ecg_strip", "count_beats", {"gaps": (40, 12)}),
        ("sticker_count", "count_pasted", {"discs": 1, "squares": 1}),
        ("missing_patch", "find_missing_patch", {"x": 0, "y": 0}),
    ],
)
def test_a_checker_reads_the_picture_and_not_the_values(workshop, monkeypatch, name, ask, changes):
    """It is shown false parameters with the right picture and still comes to the right answer."""
    program, found = PROGRAMS[name], []
    check = type(program).check

    def blind(self, params, shown):
        found.append(check(self, params.model_copy(update=changes), shown))
        return found[-1]

    monkeypatch.setattr(type(program), "check", blind)
    sample = workshop.make(name, ask, 0.5, 3)
    assert is_right_answer(sample, found[0])


@pytest.mark.parametrize("name", [name for name, program in PROGRAMS.items() if not program.on_image])
def test_options_differ_from_the_answer_and_the_right_one_stands_anywhere(workshop, name):
    samples = [drawn(workshop, name, PROGRAMS[name].skills[-1], 0.5, seed, form="choice") for seed in range(8)]
    for sample in samples:
        pairs = [(a, b) for i, a in enumerate(sample.options) for b in sample.options[:i]]
        assert not any(same(a, b) for a, b in pairs)
    assert len({sample.answer.value for sample in samples}) > 1


def test_the_planner_reads_what_every_parameter_means():
    told = json.dumps(PROGRAMS["bar_chart"].schema)
    assert "in half grid steps" in told
    assert '"maximum": 19' in told


HOSTILE = {
    "too many bars": ("bar_chart", {"labels": ["x"] * 100_000, "levels": [3] * 100_000}),
    "a bar of a thousand million": ("bar_chart", {"levels": [10**9, 2, 3]}),
    "no label": ("bar_chart", {"labels": ["", "b", "c"]}),
    "not a number": ("bar_chart", {"levels": [float("nan"), 2, 3]}),
    "infinity": ("bar_chart", {"levels": [float("inf"), 2, 3]}),
    "labels that read the same": ("bar_chart", {"labels": ["May", "may ", "c"]}),
    "right to left": ("bar_chart", {"labels": ["שלום", "b", "c"]}),
    "an override of direction": ("bar_chart", {"labels": ["a\u202eb", "b", "c"]}),
    "emoji": ("bar_chart", {"labels": ["🦄", "b", "c"]}),
    "a line break": ("bar_chart", {"title": "one\ntwo"}),
    "a quote": ("bar_chart", {"labels": ['a"b', "b", "c"]}),
    "nothing but signs": ("bar_chart", {"labels": ["!!", "b", "c"]}),
    "an unknown skill": ("bar_chart", {"ask": "everything"}),
    "an unknown key": ("bar_chart", {"code": "import os"}),
    "a bar that is not there": ("bar_chart", {"first": 11}),
    "true for a number": ("bar_chart", {"levels": ["many", 2, 3]}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_parameters_are_refused_with_a_reason(bars, case):
    name, changes = HOSTILE[case]
    with pytest.raises(Refused, match=name) as refused:
        read_params(PROGRAMS[name], bars(**changes)["params"])
    assert refused.value.gate == "params"
    assert len(refused.value.reason) < 300


@pytest.mark.parametrize("label", [r"$\frac", "$x^2$", r"\alpha", "<b>A</b>", "{{7*7}}", "%s", "a_b^c", "Ünïcode é"])
def test_markup_in_labels_is_drawn_as_it_stands(workshop, bars, label):
    params = read_params(PROGRAMS["bar_chart"], bars(labels=[label, "June", "July"], title=label, unit=label)["params"])
    sample = construct(PROGRAMS["bar_chart"], Recipe("bar_chart", params, 1), workshop.shelf, "chart_graph")
    assert label in sample.question


def test_the_largest_pictures_are_drawn_within_a_second_of_processor_time(workshop):
    for name, program in PROGRAMS.items():
        before = time.process_time()
        workshop.make(name, program.skills[0], 1.0, 2)
        assert time.process_time() - before < 1.0, name


def test_names_of_one_letter_are_asked_for_without_options(workshop, bars):
    params = read_params(
        PROGRAMS["bar_chart"], bars(ask="rank_values", form="choice", labels=["C", "A", "B"])["params"]
    )
    sample = construct(PROGRAMS["bar_chart"], Recipe("bar_chart", params, 1), workshop.shelf, "chart_graph")
    assert (sample.options, sample.answer.value) == ((), "B")
