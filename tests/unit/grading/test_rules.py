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
    assert verdict.grader == "number@2"


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


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("3 cm", "3cm"),
        ("3cm", "3.0 cm"),
        ("2500000", "2.5 million"),
        ("2.5 million", "2,500,000"),
        ("-5", "minus 5"),
        ("minus five", "-5"),
        ("twenty-five men", "25 men"),
        ("45 %", "45 percent"),
        ("45%", "45 per cent"),
    ],
)
def test_a_quantity_that_is_only_written_otherwise_is_right(answer: str, said: str) -> None:
    assert grade(make_sample(answer=answer), f"answer: {said}").correct


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("3 cm", "30 mm"),
        ("5000", "5k"),
        ("5 km", "5000"),
        ("12", "dozen"),
        ("0", "none"),
        ("grey", "gray"),
        ("dog", "dogs"),
        ("barchart", "bar chart"),
    ],
)
def test_what_may_only_be_written_otherwise_is_left_to_the_judge(answer: str, said: str) -> None:
    assert needs_judge(grade(make_sample(answer=answer), f"answer: {said}"))


@pytest.mark.parametrize(("answer", "said"), [("east", "west"), ("5", "6"), ("2500000", "2.4 million"), ("red", "5")])
def test_what_differs_for_certain_asks_no_judge(answer: str, said: str) -> None:
    verdict = grade(make_sample(answer=answer), f"answer: {said}")
    assert not verdict.correct
    assert not needs_judge(verdict)


@pytest.mark.parametrize(
    ("answer", "said", "kind"),
    [
        ("300", "3 m", "undecided"),
        ("12", "1 dozen", "undecided"),
        ("12", "a dozen", "undecided"),
        ("500000", "half a million", "undecided"),
        ("5000", "5k", "undecided"),
        ("300", "4 cm", "wrong"),
        ("300 mm", "4 mm", "wrong"),
        ("6", "5", "wrong"),
        ("2500000", "2.5 million", "correct"),
        ("-5", "minus 5", "correct"),
        ("25", "twenty-five", "correct"),
    ],
)
def test_a_number_in_a_unit_that_nobody_asked_for_is_left_to_the_judge(answer: str, said: str, kind: str) -> None:
    verdict = grade(make_sample("How many cm is it?", answer, kind="number"), f"answer: {said}")
    assert ("undecided" if needs_judge(verdict) else str(verdict.kind)) == kind


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ("How many?", "2", "two and a half"),
        ("How many?", "2", "2 dozen"),
        ("How many?", "3", "3 thousandths"),
        ("How many?", "3", "3 fifths"),
        ("How many?", "2", "2 lakh"),
        ("How many?", "6", "half of 6"),
        ("How many pairs?", "2", "two and a half pairs"),
        ("How long is it?", "3", "3 m"),
        ("How long is it in cm?", "3", "3 metres"),
        ("How many?", "3", "3k"),
    ],
)
def test_an_equal_number_whose_words_may_make_it_another_is_left_to_the_judge(
    question: str, answer: str, said: str
) -> None:
    assert needs_judge(grade(make_sample(question, answer, kind="number"), f"answer: {said}"))


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        ("How many animals?", "3", "3 cats"),
        ("How many animals?", "3", "3 of them"),
        ("How many animals?", "3", "3 in the picture"),
        ("How long is it?", "3 cm", "3 centimeters"),
        ("How long is it in metres?", "3", "3 m"),
        ("How old is he?", "3", "3 years"),
        ("How many pairs?", "3", "3 pairs"),
        ("How many dozens?", "3", "3 dozen"),
        ("How many feet?", "3", "3 ft"),
        ("How much is it?", "3", "$3"),
    ],
)
def test_an_equal_number_of_what_was_asked_for_is_right(question: str, answer: str, said: str) -> None:
    assert grade(make_sample(question, answer, kind="number"), f"answer: {said}").correct
