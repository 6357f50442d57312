import pytest
from builders import make_sample

from dpe_ray.grading.rules import grade, is_right_answer, needs_judge, normalise
from dpe_ray.types import VerdictKind

CHOICE = make_sample("Which?", "B", options=("a red car", "a blue car", "no car"))


@pytest.mark.parametrize(
    ("answer", "tolerance", "said", "right"),
    [
        ("12", 0.0, "12", True),
        ("12", 0.0, "12.0", True),
        ("12", 0.0, "13", False),
        ("1,234", 0.0, "1234", True),
        ("0.5", 0.0, "1/2", True),
        ("45%", 0.0, "45", True),
        ("0.45", 0.0, "45%", True),
        ("0.45", 0.0, "45", False),
        ("10", 0.5, "10.5", True),
        ("10", 0.5, "10.6", False),
        ("3", 0.0, "three", True),
        ("1/3", 0.0, "0.33", False),
        ("-4", 0.0, "4", False),
        ("12 cm", 0.0, "12", True),
    ],
)
def test_numbers_are_equal_within_the_tolerance(answer: str, tolerance: float, said: str, right: bool) -> None:
    sample = make_sample(answer=answer, kind="number", tolerance=tolerance)
    verdict = grade(sample, f"answer: {said}")
    assert verdict.correct is right
    assert verdict.grader == "number@1"


@pytest.mark.parametrize(("said", "right"), [("B", True), ("(b)", True), ("A blue car", True), ("C", False)])
def test_choices_are_graded_by_letter_or_by_the_text_of_one_option(said: str, right: bool) -> None:
    assert grade(CHOICE, f"answer: {said}").correct is right


@pytest.mark.parametrize("sample", [CHOICE, make_sample(kind="number", answer="3"), make_sample()])
def test_no_answer_is_unparsable_and_counts_as_judged_and_wrong(sample: object) -> None:
    verdict = grade(sample, "I cannot see the image.")  # type: ignore[arg-type]
    assert verdict.kind is VerdictKind.UNPARSABLE
    assert verdict.judged
    assert not verdict.correct


def test_text_is_equal_but_for_case_articles_and_punctuation() -> None:
    sample = make_sample(answer="the Eiffel tower", aliases=("Tour Eiffel",))
    assert grade(sample, "answer: Eiffel Tower.").correct
    assert grade(sample, "answer: tour eiffel").correct
    assert normalise("The  THREE Men!") == "3 men"


def test_only_text_that_may_mean_the_same_asks_for_a_judge() -> None:
    assert not needs_judge(grade(make_sample(answer="red"), "answer: blue"))
    assert needs_judge(grade(make_sample(answer="red"), "answer: dark red"))
    assert needs_judge(grade(make_sample(answer="it broke down"), "answer: the engine failed completely"))
    assert not needs_judge(grade(make_sample(answer="red"), "answer: red"))
    assert not needs_judge(grade(make_sample(answer="3", kind="number"), "answer: 4"))


def test_a_bare_answer_is_graded_like_one_in_a_completion() -> None:
    assert is_right_answer(CHOICE, "B")
    assert not is_right_answer(CHOICE, "A")
