from builders import make_sample

from dpe_ray.grading.judge import judge_prompt, judge_request
from dpe_ray.grading.prompt import ANSWER_VERSION, answer_prompt
from dpe_ray.models.prompts import PromptFile

CLOSING = "\nThink in short numbered steps, then finish with one line: answer: <answer>"


def test_the_answer_prompt_is_exactly_question_options_and_closing_line() -> None:
    choice = make_sample("Which?", "A", options=("one", "two {{ x }}"))
    assert answer_prompt(choice).text == "Which?\n(A) one\n(B) two {{ x }}" + CLOSING
    assert answer_prompt(make_sample("What?")).text == "What?" + CLOSING


def test_the_stated_version_is_that_of_the_file() -> None:
    assert PromptFile.load("dpe_ray.grading", "answer").label == ANSWER_VERSION


def test_the_judge_is_shown_the_students_answer_last() -> None:
    sample = make_sample("Which?", "A", options=("one", "two"))
    text = judge_request(judge_prompt(), sample, "line 1\nanswer: B").messages[0].text
    assert text.startswith("You are the judge.\n")
    assert text.endswith(
        "\nQuestion: Which?\nOptions:\n(A) one\n(B) two\nReference answer: A\nStudent's answer:\nline 1\nanswer: B"
    )
