import json
from itertools import pairwise
from pathlib import Path

import pytest

from dpe_ray.diagnose.mistakes.steps import Step, split_steps
from dpe_ray.grading.extract import extract_answer
from dpe_ray.types import AnswerKind

# Answers of GPT-4o to questions of MMMU-Pro, from MMMU-Benchmark/MMMU at bb0b95a, mmmu-pro/output (Apache-2.0), with
# the letter that its parser took; how each step begins was checked by eye.
LINES = (Path(__file__).parent / "gpt4o_rationales.jsonl").read_text(encoding="utf-8").splitlines()
REAL = [json.loads(line) for line in LINES]

NUMBERED = """To find the sum, follow these steps:

1. **Read the first number**:
   - It is 4.

2. **Read the second**:
   1. left digit 1
   2. right digit 2

3) Add them:
   \\[
   4 + 12 = 16.
   \\]

The sum is even. It stands in the last row.

Therefore, the answer is:

Answer: C"""
HEADED = "### Step 1: Read\n\nThe bar is at 4.\n\n### Step 2: Double\n\nTwice 4 is 8.\n\n**Answer: B**"
SENTENCES = (
    "The red bar, e.g. the left one, is 3.5 units high. The blue bar is at 5. We use\n\\[ a. B \\]\n"
    "Thus Dr. Who loses! So blue is taller. The answer is (B)."
)


def texts(source: str) -> list[str]:
    return [step.text for step in split_steps(source)]


def assert_tiled(source: str, steps: tuple[Step, ...]) -> None:
    assert steps[0].start == 0
    assert all(one.end == two.start for one, two in pairwise(steps))
    assert all(step.text in source[step.start : step.end] for step in steps)


def test_numbered_lines_are_steps_and_what_follows_them_is_cut_into_sentences() -> None:
    assert [text.split("\n")[0] for text in texts(NUMBERED)] == [
        "To find the sum, follow these steps:",
        "**Read the second**:",
        "Add them:",
        "The sum is even.",
        "It stands in the last row.",
    ]


def test_headings_with_step_numbers_keep_the_paragraphs_below_them() -> None:
    assert texts(HEADED) == ["Read\n\nThe bar is at 4.", "Double\n\nTwice 4 is 8."]


def test_sentences_are_steps_where_no_line_is_numbered() -> None:
    assert texts(SENTENCES) == [
        "The red bar, e.g. the left one, is 3.5 units high.",
        "The blue bar is at 5.",
        "We use\n\\[ a. B \\]\nThus Dr. Who loses!",
        "So blue is taller.",
    ]


def test_short_numbered_steps_stay_steps() -> None:
    assert texts("1. count star\n2. b2 c3\n3. makes 2\nanswer: 2") == ["count star", "b2 c3", "makes 2"]


def test_options_one_by_one_are_steps_of_their_own() -> None:
    source = "Let us look at the options:\n\nA. Red is too dark.\nB. Blue fits the sky.\n\nAnswer: B"
    assert texts(source) == ["Let us look at the options:\n\nA. Red is too dark.", "B. Blue fits the sky."]


@pytest.mark.parametrize("source", [NUMBERED, HEADED, SENTENCES])
def test_the_spans_and_the_closing_answer_rebuild_the_source(source: str) -> None:
    steps = split_steps(source)
    assert_tiled(source, steps)
    assert "answer" in source[steps[-1].end :].lower()


@pytest.mark.parametrize(
    "closing",
    [
        "Answer: C",
        "**Answer:** C",
        "Answer: **C**. No project pays.",
        "The correct option is (C).",
        "Therefore, the best match is:\n\nAnswer: C",
        "\\[\\boxed{C}\\]",
        "So the best answer would be C.",
        "C",
    ],
)
def test_the_closing_answer_is_no_step(closing: str) -> None:
    assert texts(f"The bar is high. It is red.\n\n{closing}") == ["The bar is high.", "It is red."]


@pytest.mark.parametrize("source", ["", " \n", "Answer: C", "(B)", "The answer is 12."])
def test_an_answer_alone_has_no_steps(source: str) -> None:
    assert split_steps(source) == ()


@pytest.mark.parametrize("row", REAL, ids=lambda row: row["id"])
def test_rationales_of_a_frontier_model_split_as_a_reader_would(row: dict) -> None:
    steps = split_steps(row["response"])
    assert [step.text[: len(begins)] for step, begins in zip(steps, row["steps"], strict=True)] == row["steps"]
    assert_tiled(row["response"], steps)
    closing = row["response"][steps[-1].end :]
    assert extract_answer(closing, AnswerKind.CHOICE, "ABCDEFGHIJ") == row["letter"]
