"""What a sample is answered with in training."""

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


def test_a_rationale_that_ends_at_another_answer_contradicts() -> None:
    assert contradicts(sample("1. They are 3 and 5.\nanswer: 3"))
    assert not contradicts(sample("1. They are 3 and 5.\nanswer: 5"))
    assert not contradicts(sample("They are 3 and 5."))
