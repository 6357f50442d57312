"""What a sample is answered with in training."""

from dataclasses import replace

import pytest

from dpe_ray.train.reward import answer_format
from dpe_ray.train.targets import completion_text, contradicts, rationale_steps
from dpe_ray.types import Answer, AnswerKind, Sample

THREE = ["Find the bars.", "They are 3 and 5.", "5 is larger."]


def sample(rationale: str = "", value: str = "5", kind: AnswerKind = AnswerKind.NUMBER) -> Sample:
    return Sample((), "Which?", Answer(kind, value), rationale=rationale)


@pytest.mark.parametrize(
    "rationale",
    [
        "1. Find the bars.\n2. They are 3 and 5.\n3. 5 is larger.\nanswer: 5",
        "1) Find the bars.\n\n2) They are 3\n   and 5.\n3) 5 is larger.",
        "Step 1: Find the bars.\nStep 2: They are 3 and 5.\nStep 3: 5 is larger.\n**Answer:** 5",
        "Find the bars.\nThey are 3 and 5.\n5 is larger.",
        "Find the bars. They are 3 and 5. 5 is larger. The answer is 5.",
    ],
)
def test_a_rationale_becomes_its_steps_however_it_is_written(rationale: str) -> None:
    assert rationale_steps(rationale) == THREE


def test_completion_is_numbered_steps_and_the_answer_line() -> None:
    text = completion_text(sample("Find the bars. They are 3 and 5."))
    assert text == "1. Find the bars.\n2. They are 3 and 5.\nanswer: 5"
    assert answer_format(sample(), text) == 1


def test_without_a_rationale_only_the_answer_line_is_left() -> None:
    assert completion_text(sample("")) == "answer: 5"


def test_a_number_with_a_decimal_point_is_no_step_number() -> None:
    assert rationale_steps("3.5 is the mean of both.") == ["3.5 is the mean of both."]


def test_a_number_that_ends_a_sentence_is_no_step_number() -> None:
    assert rationale_steps("Both are above 5. So look.\n1. They are 6 and 7.") == [
        "Both are above 5. So look.",
        "They are 6 and 7.",
    ]


def test_a_rationale_that_ends_at_another_answer_contradicts() -> None:
    assert contradicts(sample("1. They are 3 and 5.\nanswer: 3"))
    assert not contradicts(sample("1. They are 3 and 5.\nanswer: 5"))
    assert not contradicts(sample("They are 3 and 5."))


CHOICE = Sample((), "Which?", Answer(AnswerKind.CHOICE, "B"), options=("3", "5"))


@pytest.mark.parametrize(
    "rationale",
    [
        "The bars are 3 and 5. The answer is {}.",
        "1. The bars are 3 and 5.\n2. The answer is {}.",
        "1) The bars are 3 and 5.\n2) So the answer is ({}).",
        "Step 1: Find the bars.\nStep 2: Thus, the final answer is {}",
        "The bars are 3 and 5.\nTherefore, the correct answer is **{}**.",
        "One bar is larger, so the answer is {}.",
        "The answer seems hidden. The answer is C at first sight. The answer is {}.",
    ],
)
def test_an_answer_that_is_stated_within_the_steps_contradicts_when_it_is_another(rationale: str) -> None:
    assert contradicts(replace(CHOICE, rationale=rationale.format("A")))
    assert contradicts(replace(CHOICE, rationale=f"{rationale.format('A')}\nanswer: B"))
    assert not contradicts(replace(CHOICE, rationale=rationale.format("B")))


@pytest.mark.parametrize(
    "rationale",
    [
        "1. The answer is in the legend.\n2. It says 5.",
        "Count them. The answer is the sum of both bars.",
        "Look at both. The answer is not A. It is larger than that.",
        "The wrong answer is A. The bars are 3 and 5.",
        "It cannot be that the answer is A. 5 is larger.",
    ],
)
def test_what_no_rule_reads_as_an_answer_of_its_own_contradicts_nothing(rationale: str) -> None:
    assert not contradicts(replace(CHOICE, rationale=rationale))


def test_numbers_and_words_within_the_steps_are_compared_as_answers_are() -> None:
    assert contradicts(sample("They are 2 and 4. So the answer is 6."))
    assert not contradicts(sample("They are 2 and 3. So the answer is 5.0."))
    assert contradicts(sample("It shines. The answer is blue.", "red", AnswerKind.TEXT))
    assert not contradicts(sample("It shines. The answer is the red one.", "red", AnswerKind.TEXT))
