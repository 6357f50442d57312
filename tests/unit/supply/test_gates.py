from dataclasses import replace

import pytest
from builders import make_image_ref, make_sample
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.supply import gates
from dpe_ray.types import Answer, AnswerKind

OPTIONS = ("red", "blue", "green")


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (make_sample(" "), "question is empty"),
        (make_sample(answer=" "), "answer is empty"),
        (make_sample(answer="many", kind="number"), "no rule can grade"),
        (make_sample(answer="3 or 4", kind="number"), "no rule can grade"),
        (make_sample(answer="D", options=OPTIONS), "none of the letters ABC"),
        (make_sample(answer="red", options=OPTIONS), "none of the letters ABC"),
        (make_sample(answer="A", options=("red",)), "give 2 to 10"),
        (make_sample(answer="A", options=tuple(map(str, range(11)))), "give 2 to 10"),
        (make_sample(answer="A", options=("red", "red ", "blue")), "equal"),
        (make_sample(answer="A", options=("red", "")), "empty"),
        (replace(make_sample(), options=OPTIONS), "no options"),
        (replace(make_sample(), answer=Answer(AnswerKind.CHOICE, "A")), "give 2 to 10"),
    ],
)
def test_format_gate_tells_what_is_wrong(sample, told):
    assert told in gates.check_format(sample)


def test_format_gate_passes_what_a_rule_can_grade():
    assert gates.check_format(make_sample()) is None
    assert gates.check_format(make_sample(answer="1,234.5", kind="number")) is None
    assert gates.check_format(make_sample(answer="C", options=OPTIONS)) is None
    assert gates.check_format(make_sample(answer="B", options=("Aa", "AA"))) is None


@pytest.mark.parametrize(
    ("question", "answer", "leaks"),
    [
        ("What colour is the red car?", "red", True),
        ("Is the ring left or right of the bar?", "left", False),
        ("Does it lie to the left or to the right of the bar?", "right", False),
        ("Odd or even: what is the result?", "odd", False),
        ("What is left over?", "left", True),
        ("What stands at b3?", "b", False),
        ("The answer is red. What is it?", "red", True),
    ],
)
def test_leak_gate_spares_alternatives_that_the_question_offers(question, answer, leaks):
    assert bool(gates.check_leak(make_sample(question, answer))) is leaks


def test_leak_gate_takes_a_number_in_the_question_for_chance_unless_it_is_told():
    assert gates.check_leak(make_sample("What is the sum of row 3?", "3", kind="number")) is None
    assert gates.check_leak(make_sample("How many (answer: 3)?", "3", kind="number")) is not None


def test_leak_gate_reads_the_text_of_the_right_option():
    assert gates.check_leak(make_sample("Which one is blue?", "B", options=OPTIONS)) is not None
    assert gates.check_leak(make_sample("Which one is blue?", "A", options=OPTIONS)) is None


def test_category_gate_compares_the_image_with_the_cell():
    assert gates.check_category("map", "map") is None
    assert "map" in gates.check_category("map", "medical")
    assert "nothing known" in gates.check_category("", "medical")


@pytest.mark.parametrize("found", ["Chart / Graph", "chart-graph", "ChartGraph", " Chart Graph. "])
def test_category_gate_reads_a_category_however_it_is_written(found):
    assert gates.check_category(found, "chart_graph") is None
    assert gates.check_category("chart_graph", found) is None


def test_categories_in_another_script_stay_apart():
    assert gates.check_category("地图", "医学") is not None
    assert gates.check_category("地图", "地图") is None


def test_a_question_counts_as_seen_however_it_is_written():
    seen = {gates.sample_key(make_sample("What colour  is it"))}
    assert gates.check_seen(make_sample("what colour is it?"), seen) is not None
    assert gates.check_seen(make_sample("what colour is it?", image=make_image_ref("other")), seen) is None


def test_pass_rate_band_includes_its_ends():
    band = (0.3, 0.8)
    assert [gates.check_pass_rate(k / 10, band) is None for k in (2, 3, 8, 9)] == [False, True, True, False]


def test_what_is_taught_by_example_has_no_lower_end():
    bands = [gates.band_of(cell, (0.3, 0.8), {"map/roads"}) for cell in ("map/roads", "map/towns")]
    assert bands == [(0.0, 0.8), (0.3, 0.8)]


def test_pass_rate_of_a_choice_is_corrected_for_guessing():
    band = (0.3, 0.8)
    assert gates.check_pass_rate(3 / 9, band) is None
    assert gates.check_pass_rate(3 / 9, band, num_options=4) is not None
    assert [k for k in range(10) if gates.check_pass_rate(k / 9, band, num_options=4) is None] == [5, 6, 7]
    assert gates.corrected_rate(1.0, 4) == 1.0
    assert gates.corrected_rate(0.25, 4) == 0.0


@given(st.floats(0, 1), st.integers(2, 10))
def test_corrected_rate_is_a_rate_and_never_above_the_raw_one(rate, options):
    assert 0 <= gates.corrected_rate(rate, options) <= rate + 1e-12
