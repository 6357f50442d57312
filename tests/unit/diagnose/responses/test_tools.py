"""Logs that the tools themselves wrote (fixtures/write_*.py), counted by hand."""

from collections import Counter
from pathlib import Path

import pytest

from dpe_ray.diagnose.responses.counting import diagnose_responses
from dpe_ray.diagnose.responses.reading import read_responses
from dpe_ray.diagnose.responses.response import Response
from dpe_ray.types import AnswerKind, Diagnosis

FIXTURES = Path(__file__).parent / "fixtures"
INSPECT, LMMS, VLM = "inspect_ai_0.3.285_", "lmms_eval_0.7.3_samples_", "vlmevalkit_0.0.20_scripted_"


def responses_of(name: str) -> list[Response]:
    return list(read_responses(FIXTURES / name))


def diagnosis_of(name: str) -> Diagnosis:
    return diagnose_responses([response.graded() for response in responses_of(name)])


@pytest.mark.parametrize(
    ("name", "not_judged", "counts", "kinds"),
    [
        (
            f"{INSPECT}mini_choice.eval",
            1,
            {"counting": (1, 1), "mini_choice": (2, 0), "perception": (4, 1)},
            {"wrong": 2, "unparsable": 1, "undecidable": 2},
        ),
        (
            f"{INSPECT}mini_choice.json",
            1,
            {"counting": (1, 1), "mini_choice": (2, 0), "perception": (4, 1)},
            {"wrong": 2, "unparsable": 1, "undecidable": 2},
        ),
        (
            f"{INSPECT}mini_words.eval",
            0,
            {"animal": (1, 0), "colour": (1, 0), "text": (1, 1)},
            {"wrong": 1, "unparsable": 1},
        ),
        (f"{LMMS}mini_choice.jsonl", 1, {"mini_choice": (4, 1)}, {"wrong": 1, "unparsable": 2}),
        (
            f"{LMMS}mini_words.jsonl",
            0,
            {"animal": (1, 0), "colour": (1, 0), "text": (1, 1)},
            {"wrong": 1, "undecidable": 1},
        ),
        (f"{VLM}MiniBench.xlsx", 1, {"perception": (3, 1), "reasoning": (2, 2)}, {"wrong": 1, "unparsable": 1}),
        (
            f"{VLM}MiniBench_exact_matching_result.xlsx",
            1,
            {"perception": (3, 1), "reasoning": (2, 2)},
            {"wrong": 1, "unparsable": 1},
        ),
        (
            f"{VLM}MiniWords.tsv",
            0,
            {"animal": (1, 0), "counting": (1, 1), "material": (1, 0), "text": (1, 1)},
            {"unparsable": 2},
        ),
        (
            f"{VLM}MiniWords.json",
            0,
            {"animal": (1, 0), "counting": (1, 1), "material": (1, 0), "text": (1, 1)},
            {"unparsable": 2},
        ),
    ],
)
def test_what_a_tool_wrote_gives_the_counts_of_a_person(
    name: str, not_judged: int, counts: dict[str, tuple[int, int]], kinds: dict[str, int]
) -> None:
    found = diagnosis_of(name)
    assert (found.not_judged, found.by_category()) == (not_judged, counts)
    assert sum((Counter(cell.error_types) for cell in found.cells), Counter()) == kinds


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        (f"{INSPECT}mini_choice.eval", [1, None, 1, 0, 0, 1, 0, 0]),
        (f"{INSPECT}mini_words.eval", [1, 1, 0]),
        (f"{LMMS}mini_choice.jsonl", [1, 0, 0, 0, 1]),
        (f"{LMMS}mini_words.jsonl", [1, 0, 0]),
        (f"{VLM}MiniBench.xlsx", [None] * 6),
        (f"{VLM}MiniBench_exact_matching_result.xlsx", [1, 0, 0, 1, 1, 0]),
    ],
)
def test_the_scores_of_the_log_are_kept_and_do_not_grade(name: str, scores: list[float | None]) -> None:
    assert [response.score for response in responses_of(name)] == scores


def test_an_outage_keeps_what_the_log_says_of_it() -> None:
    for name, said in (
        (f"{INSPECT}mini_choice.eval", "the endpoint is down"),
        (f"{LMMS}mini_choice.jsonl", "[LMMS_EVAL_REQUEST_FAILED after 5 retries] Connection error."),
        (f"{VLM}MiniBench.xlsx", "Failed to obtain answer via API."),
    ):
        (lost,) = (response for response in responses_of(name) if response.text is None)
        assert said in lost.graded().verdict.reason


def test_an_empty_answer_is_an_answer() -> None:
    for name in (f"{LMMS}mini_choice.jsonl", f"{VLM}MiniBench.xlsx"):
        assert any(response.text == "" for response in responses_of(name))


def test_hidden_reasoning_and_pictures_are_no_part_of_question_and_answer() -> None:
    colour = responses_of(f"{INSPECT}mini_choice.eval")[0]
    assert (colour.sample.question, colour.sample.options, colour.text) == (
        "Which colour is it?",
        ("red", "blue"),
        "ANSWER: A",
    )


def test_options_come_from_the_prompt_that_lmms_eval_recorded_and_the_rationale_from_before_its_filter() -> None:
    first = responses_of(f"{LMMS}mini_choice.jsonl")[0]
    assert (first.sample.question, first.sample.options) == ("Which colour is the picture?", ("red", "blue", "green"))
    assert first.text == "1. It is all red.\n2. Red is A.\nanswer: A"


def test_several_right_answers_are_each_right() -> None:
    first = responses_of(f"{LMMS}mini_words.jsonl")[0].sample.answer
    assert (first.kind, first.value, first.aliases) == (AnswerKind.TEXT, "stop", ("STOP sign",))


def test_a_formula_in_a_cell_is_text() -> None:
    sample = responses_of(f"{VLM}MiniBench.xlsx")[4].sample
    assert sample.options == ("=1+1", "3")


def test_the_coarse_category_is_the_cells_and_the_fine_one_its_skill() -> None:
    assert {cell.cell for cell in diagnosis_of(f"{VLM}MiniBench.xlsx").cells} == {
        "perception/colour",
        "perception/depth",
        "perception/shape",
        "reasoning/arithmetic",
        "reasoning/counting",
    }
