import pytest
from builders import make_graded, make_sample

from dpe_ray.diagnose.mistakes.problem import Problem, problem_of

CHOICE = make_sample("Which colour?", "B", options=("red", "blue", "green", "pink"))


def test_a_wrong_letter_keeps_all_options():
    problem = problem_of(make_graded(CHOICE, "wrong", "1. it is pink\nanswer: D"))
    assert problem == Problem(CHOICE.id, "Which colour?", CHOICE.options, gold=1, wrong=3)


def test_the_words_of_an_option_are_its_letter():
    assert problem_of(make_graded(CHOICE, "wrong", "1. it is\nanswer: Green")).wrong == 2


def test_open_ended_items_are_a_choice_between_the_right_and_the_given_answer():
    number = make_sample("How many?", "4", kind="number")
    assert problem_of(make_graded(number, "wrong", "1. three\nanswer: 3")).options == ("4", "3")


@pytest.mark.parametrize("text", ["1. it is\nanswer: dark violet", "1. blue\nanswer: B", ""])
def test_without_a_wrong_answer_there_is_no_problem(text):
    assert problem_of(make_graded(CHOICE, "wrong", text)) is None


def test_swapping_moves_gold_and_wrong_alone():
    problem = Problem("id", "Which?", ("red", "blue", "green", "pink"), 1, 3)
    assert problem.swapped() == Problem("id", "Which?", ("red", "pink", "green", "blue"), 3, 1)
    assert problem.swapped().swapped() == problem
