import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.grading.extract import LONGEST, extract_answer
from dpe_ray.types import AnswerKind

ROWS = [line.split("\t") for line in (Path(__file__).parent / "completions.tsv").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("kind", "wanted", "text"), ROWS)
def test_real_completions_give_their_answer_or_none(kind: str, wanted: str, text: str) -> None:
    text = text.replace("\\n", "\n").replace("\\\\", "\\")
    assert (extract_answer(text, AnswerKind(kind), "ABCD") or "-") == wanted


def test_a_completion_of_ten_thousand_characters_gives_its_last_answer() -> None:
    text = "1. I see many things. " * 500 + "\nanswer: 17"
    assert extract_answer(text, AnswerKind.NUMBER) == "17"


@pytest.mark.parametrize("kind", AnswerKind)
@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "A, ",
        "not A and ",
        "one hundred ",
        "\n",
        "$",
        "1,",
        "answer: ",
        "\\boxed{",
        "\\frac{",
        "<answer>",
        "^",
        "**",
        "answer ",
        "( ",
        "1 ",
    ],
)
def test_hostile_repetition_costs_no_time(kind: AnswerKind, unit: str) -> None:
    start = time.perf_counter()
    extract_answer("answer" + unit * LONGEST, kind, "ABCD")
    extract_answer("answer: " + unit * LONGEST, kind, "ABCD")
    assert time.perf_counter() - start < 2.0


@given(st.text(max_size=300), st.sampled_from(AnswerKind))
def test_no_text_breaks_extraction(text: str, kind: AnswerKind) -> None:
    found = extract_answer(text, kind, "ABCD")
    assert found is None or (found in "ABCD" if kind is AnswerKind.CHOICE else found)


@given(st.integers(-(10**9), 10**9))
def test_any_whole_number_survives_with_and_without_separators(value: int) -> None:
    assert extract_answer(f"answer: {value}", AnswerKind.NUMBER) == str(value)
    assert extract_answer(f"answer: {value:,}", AnswerKind.NUMBER) == str(value)
