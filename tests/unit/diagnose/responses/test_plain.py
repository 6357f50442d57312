import json
from pathlib import Path
from typing import Any

import pytest

from dpe_ray.diagnose.responses.counting import diagnose_responses
from dpe_ray.diagnose.responses.reading import read_responses
from dpe_ray.errors import PoolError
from dpe_ray.types import VerdictKind

PAINTER = {
    "id": "test_Art_113",
    "question": "<image 1> was painted by which artist?",
    "options": "['James Irvine', 'John Duncan', 'Gavin Hamilton']",
    "answer": "A",
    "subject": "Art",
    "response": "A. James Irvine",
}
"""A row as MMMU-Pro records it (github.com/MMMU-Benchmark/MMMU, mmmu-pro/output, Apache-2.0), shortened."""


def write(folder: Path, *changes: dict[str, Any]) -> Path:
    file = folder / "responses.jsonl"
    file.write_text("".join(json.dumps(PAINTER | change) + "\n" for change in changes))
    return file


def test_recorded_rows_are_graded_by_rule_and_counted_by_category(tmp_path: Path) -> None:
    changes = [{}, {"response": "B"}, {"response": "Hard to say."}, {"category": "music/jazz", "response": "answer: A"}]
    responses = list(read_responses(write(tmp_path, *changes)))
    assert responses[0].id == "test_Art_113"
    assert responses[0].sample.options == ("James Irvine", "John Duncan", "Gavin Hamilton")
    diagnosis = diagnose_responses([response.graded() for response in responses])
    assert diagnosis.by_category() == {"Art": (3, 1), "music-jazz": (1, 1)}
    art = diagnosis.cells[0]
    assert art.error_types == {"unparsable": 1, "wrong": 1}
    assert art.low < 1 / 3 < art.high


def test_free_text_that_rules_cannot_decide_is_told_from_what_they_find_wrong(tmp_path: Path) -> None:
    red = {"options": [], "answer": "red"}
    changes = [red | {"response": f"answer: {said}"} for said in ("red", "It's red", "It's a red car", "blue")]
    (cell,) = diagnose_responses([r.graded() for r in read_responses(write(tmp_path, *changes))]).cells
    assert (cell.attempts, cell.correct) == (4, 1)
    assert cell.error_types == {"undecidable": 2, "wrong": 1}


@pytest.mark.parametrize("said", [None, "Failed to obtain answer via API."])
def test_an_outage_is_not_judged_and_lowers_n_alone(tmp_path: Path, said: str | None) -> None:
    graded = [response.graded() for response in read_responses(write(tmp_path, {}, {"response": said}))]
    assert graded[1].verdict.kind is VerdictKind.NOT_JUDGED
    diagnosis = diagnose_responses(graded)
    assert (diagnosis.probed, diagnosis.not_judged, diagnosis.by_category()) == (2, 1, {"Art": (1, 1)})


@pytest.mark.parametrize("options", [["x", "y"], "['x', 'y']", "[['x', 'y']]", [["x", "y"]]])
def test_options_may_be_a_list_its_text_or_a_list_within(tmp_path: Path, options: object) -> None:
    (response,) = read_responses(write(tmp_path, {"options": options}))
    assert response.sample.options == ("x", "y")


def test_open_questions_are_graded_by_number_and_text(tmp_path: Path) -> None:
    number = {"options": [], "answer": 12, "response": "answer: 12.0"}
    text = {"options": "", "answer": "red", "response": "answer: Red."}
    with pytest.raises(PoolError, match="options are no list"):
        list(read_responses(write(tmp_path, text)))
    graded = [r.graded() for r in read_responses(write(tmp_path, number, text | {"options": None}))]
    assert [g.verdict.kind for g in graded] == [VerdictKind.CORRECT] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"options": "__import__('os')"},
        {"options": "['a'"},
        {"options": 3},
        {"options": ["one"]},
        {"answer": "Z"},
        {"answer": None},
        {"question": ""},
        {"skills": "naming"},
        {"tolerance": "wide"},
    ],
)
def test_a_bad_row_is_one_line_with_file_and_line(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(PoolError, match=r"responses\.jsonl line 2: ") as error:
        list(read_responses(write(tmp_path, {}, change)))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b'{"question": "Q"}'])
def test_a_file_of_something_else_is_a_pool_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(content)
    with pytest.raises(PoolError, match=r"log\.jsonl (line|row) 1: "):
        list(read_responses(file))


def test_no_file_and_no_response_say_so(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="cannot be read"):
        list(read_responses(tmp_path / "gone.jsonl"))
    with pytest.raises(PoolError, match="no response to diagnose"):
        diagnose_responses([])


@pytest.mark.parametrize("key", ["question", "response", "category", "answer"])
def test_half_of_a_character_is_refused_where_it_stands(tmp_path: Path, key: str) -> None:
    with pytest.raises(PoolError, match=r"line 2: .*holds \\ud800, which is half of a character"):
        list(read_responses(write(tmp_path, {}, {"options": [], key: "a\ud800b"})))


def test_a_whole_character_behind_the_basic_plane_is_a_character(tmp_path: Path) -> None:
    assert len(list(read_responses(write(tmp_path, {"question": "Who painted \U0001f600?"})))) == 1


@pytest.mark.parametrize(
    ("answer", "said"), [("1,234", "1234"), ("$1,200.50", "1200.5 dollars"), ("12,345,678", "12345678")]
)
def test_a_reference_with_its_thousands_apart_is_a_number(tmp_path: Path, answer: str, said: str) -> None:
    (response,) = read_responses(write(tmp_path, {"options": [], "answer": answer, "response": said}))
    assert response.graded().verdict.correct


def test_a_value_of_the_wrong_type_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="answer must be a text or a number, not true"):
        list(read_responses(write(tmp_path, {"answer": True})))


def test_an_array_of_objects_is_read_like_their_lines(tmp_path: Path) -> None:
    lines = write(tmp_path, {}, {"response": "B"})
    array = tmp_path / "responses.json"
    array.write_text(f"\n[{', '.join(lines.read_text().splitlines())}]")
    assert (
        [r.text for r in read_responses(array)] == [r.text for r in read_responses(lines)] == ["A. James Irvine", "B"]
    )


def test_lines_are_lines_whatever_the_file_is_called(tmp_path: Path) -> None:
    lines = write(tmp_path, {}, {"response": "B"})
    assert len(list(read_responses(lines.rename(tmp_path / "responses.json")))) == 2


def test_a_table_with_our_columns_is_read(tmp_path: Path) -> None:
    file = tmp_path / "responses.csv"
    file.write_text(
        "id,question,options,answer,response,skills\n7,\"Which, then?\",\"['x', 'y']\",B,y,\n8,How many?,,3,,\n"
    )
    first, second = read_responses(file)
    assert (first.id, first.sample.question, first.sample.options) == ("7", "Which, then?", ("x", "y"))
    assert first.graded().verdict.correct
    assert second.graded().verdict.kind is VerdictKind.UNPARSABLE  # an empty answer is an answer


def test_a_table_states_lists_as_text(tmp_path: Path) -> None:
    file = tmp_path / "responses.tsv"
    file.write_text("question\tanswer\tresponse\tskills\taliases\nWhat?\tstop\thalt\t['read signs']\t['halt']\n")
    (response,) = read_responses(file)
    assert (response.sample.skills, response.sample.answer.aliases) == (("read signs",), ("halt",))


def test_the_judgement_that_mmmu_pro_recorded_is_kept_beside_ours(tmp_path: Path) -> None:
    (response,) = read_responses(write(tmp_path, {"if_right": False}))
    assert (response.score, response.graded().verdict.correct) == (0.0, True)


def test_a_response_beside_options_may_be_called_prediction(tmp_path: Path) -> None:
    row = {key: value for key, value in PAINTER.items() if key != "response"} | {"prediction": "A. James Irvine"}
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps(row))
    (response,) = read_responses(file)
    assert response.sample.options == ("James Irvine", "John Duncan", "Gavin Hamilton")
    assert response.graded().verdict.correct
