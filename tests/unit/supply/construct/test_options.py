from random import Random

import pytest
from PIL import Image

from dpe_ray.supply.construct.options import near, offer, same
from dpe_ray.supply.construct.task import Task, Undrawable
from dpe_ray.types import AnswerKind


def task(answer, *wrong, aliases=()):
    return Task(Image.new("RGB", (4, 4)), "What?", answer, AnswerKind.TEXT, "", wrong, aliases)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2", "2.0"),
        ("1/2", "0.5"),
        ("1,000", "1000"),
        ("three", "3"),
        ("May", " may."),
        ("the hall", "Hall"),
        ("50%", "50"),
    ],
)
def test_what_a_grader_takes_for_equal_is_the_same(one, other):
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("2", "3"), ("7:25", "7:52"), ("AB", "BC"), ("-4", "4"), ("north", "north-east")]
)
def test_what_a_grader_tells_apart_is_not(one, other):
    assert not same(one, other)


def test_wrong_answers_that_equal_the_right_one_or_each_other_are_dropped():
    options, letter = offer(task("2", "2.0", "two", "3", "3.0", "5", aliases=("II",)), Random(0))
    assert sorted(options) == ["2", "3", "5"]
    assert options["ABC".index(letter)] == "2"


def test_an_alias_of_the_answer_is_no_wrong_answer():
    options, _ = offer(task("AB", "BA", "BC", aliases=("BA",)), Random(0))
    assert "BA" not in options


def test_an_answer_without_a_wrong_one_is_no_choice():
    with pytest.raises(Undrawable):
        offer(task("2", "2.0"), Random(0))


def test_the_order_follows_the_seed():
    orders = {offer(task("1", "2", "3", "4"), Random(seed))[0] for seed in range(20)}
    assert len(orders) > 5
    assert offer(task("1", "2", "3", "4"), Random(3)) == offer(task("1", "2", "3", "4"), Random(3))


@pytest.mark.parametrize("value", [0, 1, 7])
def test_neighbours_stay_in_range_and_slips_come_first(value):
    found = near(value, Random(0), least=0, slips=[value, 99, -5])
    assert found[0] == "99"
    assert str(value) not in found
    assert all(int(text) >= 0 for text in found)
    assert len(found) >= 4
