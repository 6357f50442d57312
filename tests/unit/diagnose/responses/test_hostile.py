"""Logs that are broken, of something else, or made to harm: one error that says where and what to do."""

import io
import json
import pickle
import shutil
from pathlib import Path
from struct import pack
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile
from zlib import crc32

import openpyxl
import pyarrow as pa
import pytest

from dpe_ray.diagnose.responses import archive, documents, tables
from dpe_ray.diagnose.responses.reading import read_responses
from dpe_ray.errors import PoolError

FIXTURES = Path(__file__).parent / "fixtures"
EVAL = FIXTURES / "inspect_ai_0.3.285_mini_choice.eval"
SHEET = FIXTURES / "vlmevalkit_0.0.20_scripted_MiniBench.xlsx"
SAMPLE = {
    "id": "one",
    "input": "Which?",
    "choices": ["x", "y"],
    "target": "A",
    "output": {"choices": [{"message": {"role": "assistant", "content": "A"}}]},
}
LMMS = {"doc_id": 3, "target": "A", "input": "Which?\nA. x\nB. y", "filtered_resps": "A"}


def refused(file: Path) -> str:
    with pytest.raises(PoolError) as error:
        list(read_responses(file))
    told = str(error.value)
    assert len(told.splitlines()) == 1
    assert told.startswith(str(file))
    return told.removeprefix(str(file))


def written(file: Path, content: str | bytes | dict[str, Any]) -> Path:
    text = json.dumps(content) if isinstance(content, dict) else content
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def zipped(file: Path, members: dict[str, str]) -> Path:
    with ZipFile(file, "w", ZIP_DEFLATED) as into:
        for name, content in members.items():
            into.writestr(name, content)
    return file


def zstandard(file: Path, name: str, content: bytes, *, frames: int = 1, stated: int | None = None) -> Path:
    """A zip of one member by method 93, as inspect_ai writes it, in one or more frames."""
    step = -(-len(content) // frames)
    parts = [content[start : start + step] for start in range(0, len(content), step)]
    packed = b"".join(pa.Codec("zstd").compress(part, asbytes=True) for part in parts)
    size = len(content) if stated is None else stated
    fields = pack("<HHHHHIIIHH", 63, 0, 93, 0, 33, crc32(content), len(packed), size, len(name), 0)
    local = b"PK\3\4" + fields + name.encode() + packed
    entry = b"PK\1\2" + pack("<H", 63) + fields + pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = b"PK\5\6" + pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    file.write_bytes(local + entry + end)
    return file


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.pkl", pickle.dumps([1]), "reading one would run what is in it; write it as .xlsx or .tsv"),
        ("log.parquet", b"PAR1....", "is parquet; a run's verdicts are graded already"),
        ("log.xls", b"\xd0\xcf\x11\xe0....", "save it as .xlsx"),
        ("log.jsonl.gz", b"\x1f\x8b....", "unpack it"),
        ("log.eval", b"PK\3\4 and no more", "is a broken zip file"),
        ("log.txt", b"Which? A", "line 1: is no JSON"),
        ("log.txt", b"Which? A", "readable are JSONL or a JSON array of objects, a .csv, .tsv or .xlsx table"),
        ("log.json", b'{"a": ', "is no JSON"),
        ("log.json", b"[" * 100_000, "is no JSON"),
        ("log.json", b'{"a": 1}', "is no log of answers"),
        ("log.json", b'{"results": {}, "configs": {}}', "give the *_samples_*.jsonl beside it (--log_samples)"),
        ("log.json", b"[1]", "row 1: is no JSON object"),
        ("log.csv", b"index,question\n1,Which?", "row 2: has no response; it has index, question"),
        (
            "log.csv",
            b"index,question,answer,prediction\n1,Q,A,B,C",
            "row 2: has more cells than the header has columns",
        ),
        ("log.csv", b"index,question,answer,prediction\n1,Q,A,A\n2,Q,A", "row 3: ends before its prediction"),
        ("log.csv", b"index,question,Answer,Prediction\n1,Q,A,A\n2,Q,A", "row 3: ends before its Prediction"),
        ("log.tsv", b"id\tquestion\tresponse\tanswer\n1\tQ\tA", "row 2: ends before its answer"),
        ("log.tsv", b'index\tquestion\tanswer\tprediction\n1\t"Q\tA', "line 2: is no readable table"),
        ("log.tsv", b"index\tquestion\tanswer\tprediction\n1\tQ\t\tA", "row 2: has no answer; splits without answers"),
        ("log.tsv", b"index\tquestion\tA\tB\tC\tanswer\tprediction\n1\tQ\tx\t\tz\tA\tA", "row 2: option B is empty"),
        ("log.tsv", b"index\tquestion\tanswer\tprediction\n1\tQ\xff\t\tA", "is no readable table"),
    ],
)
def test_a_file_of_something_else_says_what_it_is_and_what_to_do(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    assert told in refused(written(tmp_path / name, content))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": "None"}, "has no target"),
        ({"filtered_resps": [[-1.5, True], [-2.0, False]]}, "its response is no text"),
        ({"target": "C"}, "neither one of the options nor their letter"),
        ({"input": [], "doc": None}, "question is missing"),
        ({"input": "", "arguments": {"gen_kwargs": {}}}, "its prompt is no text"),
    ],
)
def test_a_sample_of_lmms_eval_that_is_no_answer_is_told_by_line(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    lines = f"{json.dumps(LMMS)}\n{json.dumps(LMMS | change)}\n"
    assert told in refused(written(tmp_path / "t_samples_mini.jsonl", lines)).removeprefix(" line 2: ")


def test_the_item_itself_which_older_versions_of_lmms_eval_keep_is_read_before_the_prompt(tmp_path: Path) -> None:
    doc = {"question": "Which one?", "A": "x", "B": "y", "C": "nan", "category": "shapes"}
    old = LMMS | {"doc": doc, "resps": [["A"]], "filtered_resps": ["A"], "arguments": [["other"]]}
    (response,) = read_responses(written(tmp_path / "t_samples_mini.jsonl", old))
    assert (response.sample.question, response.sample.options, response.text) == ("Which one?", ("x", "y"), "A")
    assert response.sample.category == "shapes"


def test_every_answer_that_lmms_eval_sampled_counts(tmp_path: Path) -> None:
    sampled = LMMS | {"resps": ["A", "B"], "filtered_resps": ["A", "B"]}
    assert [r.text for r in read_responses(written(tmp_path / "t_samples_mini.jsonl", sampled))] == ["A", "B"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": None}, "samples/one.json: is not as inspect_ai writes it (target"),
        ({"output": []}, "samples/one.json: is not as inspect_ai writes it (output"),
        ({"metadata": []}, "samples/one.json: is not as inspect_ai writes it (metadata"),
        ({"input": ""}, "samples/one.json: question is missing or empty"),
        ({"target": "Z"}, "samples/one.json: answer 'Z' is neither one of the options nor their letter"),
        ({"input": "\ud800"}, "samples/one.json: "),
    ],
)
def test_a_sample_of_inspect_ai_that_is_no_answer_is_told_by_its_name(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    file = zipped(tmp_path / "log.eval", {"samples/one.json": json.dumps(SAMPLE | change)})
    assert told in refused(file)


def test_samples_in_parts_and_logs_without_samples_say_so(tmp_path: Path) -> None:
    parts = zipped(tmp_path / "parts.eval", {"samples/one/sample.json": "{}"})
    assert "write whole samples with `inspect log convert" in refused(parts)
    assert "holds no samples" in refused(zipped(tmp_path / "empty.eval", {"header.json": "{}"}))
    assert "holds no samples" in refused(written(tmp_path / "log.json", {"eval": {}, "status": "success"}))


def test_a_target_is_letters_unless_it_is_an_option(tmp_path: Path) -> None:
    asked = {"choices": ["AB", "B", "C"], "target": "AB"}
    samples = [SAMPLE | asked, SAMPLE | asked | {"choices": ["x", "y", "z"]}]
    log = written(tmp_path / "log.json", {"eval": {"task": "mini"}, "status": "success", "samples": samples})
    option, letters = (response.graded().verdict for response in read_responses(log))
    assert option.correct
    assert letters.reason.endswith("all of A, B are wanted")


def test_an_invalidated_sample_and_a_failed_grader_say_nothing(tmp_path: Path) -> None:
    scores = {"model": {"value": "I", "reason": "grader_failed"}}
    samples = [SAMPLE | {"invalidation": {"author": "me"}}, SAMPLE | {"scores": scores}]
    log = written(tmp_path / "log.json", {"eval": {"task": "mini"}, "status": "success", "samples": samples})
    taken_back, unscored = read_responses(log)
    assert not taken_back.graded().verdict.judged
    assert (unscored.graded().verdict.correct, unscored.score) == (True, None)


def test_a_long_text_that_is_kept_apart_is_put_back(tmp_path: Path) -> None:
    sample = SAMPLE | {"input": "attachment://abc", "attachments": {"abc": "Which, at length?"}}
    (response,) = read_responses(zipped(tmp_path / "log.eval", {"samples/one.json": json.dumps(sample)}))
    assert response.sample.question == "Which, at length?"


@pytest.mark.parametrize("frames", [1, 3])
def test_a_sample_that_is_packed_in_several_frames_is_read_whole(tmp_path: Path, frames: int) -> None:
    content = json.dumps(SAMPLE).encode()
    (response,) = read_responses(zstandard(tmp_path / "log.eval", "samples/one.json", content, frames=frames))
    assert response.graded().verdict.correct


def test_a_member_that_unpacks_to_more_than_it_states_is_not_unpacked_further(tmp_path: Path) -> None:
    bomb = zstandard(tmp_path / "log.eval", "samples/one.json", bytes(2**26), stated=1000)
    assert bomb.stat().st_size < 10_000
    assert "samples/one.json is damaged" in refused(bomb)


def test_a_member_or_sheet_beyond_the_limit_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 2**20)
    monkeypatch.setattr(tables, "LARGEST_SHEET", 2**20)
    assert "at most 1 are read" in refused(zipped(tmp_path / "log.eval", {"samples/one.json": "0" * 2**21}))
    sheet = zipped(tmp_path / "log.xlsx", {"xl/workbook.xml": "0" * 2**21})
    assert "unpacks to 2 MiB, at most 1 are read" in refused(sheet)


def test_a_line_and_a_document_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_LINE", 2**20)
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", 2**20)
    long = '{"question": "' + "x" * 2**21
    assert "line 1: is longer than 1 MiB" in refused(written(tmp_path / "log.jsonl", long))
    assert "is one JSON document of over 1 MiB; write an array as JSONL" in refused(
        written(tmp_path / "log.json", f"[{long}")
    )


def told_of(file: Path) -> str:
    """The error, or the file's name where it was read."""
    try:
        list(read_responses(file))
    except PoolError as error:
        return str(error)
    return str(file)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("source", [EVAL, SHEET])
def test_a_log_with_a_broken_byte_or_a_missing_end_is_one_error_or_none(
    tmp_path: Path, source: Path, at: float
) -> None:
    content = source.read_bytes()
    place = int(at * len(content))
    cut = written(tmp_path / f"cut{source.suffix}", content[:place])
    turned = content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
    for file in (cut, written(tmp_path / f"turned{source.suffix}", turned)):
        assert told_of(file).startswith(str(file))


def test_a_workbook_whose_xml_swells_is_one_error(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "laugh">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 11))
    laughs = (
        f"<?xml version='1.0'?><!DOCTYPE sst [{entities}]>"
        "<sst xmlns='http://schemas.openxmlformats.org/spreadsheetml/2006/main'><si><t>&a10;</t></si></sst>"
    )
    source = io.BytesIO(SHEET.read_bytes())
    with ZipFile(source) as old, ZipFile(tmp_path / "log.xlsx", "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, laughs if "sharedStrings" in member.filename else old.read(member))
    assert "is no readable workbook" in refused(tmp_path / "log.xlsx")


def test_a_workbook_that_states_a_row_beyond_those_of_a_spreadsheet_is_refused(tmp_path: Path) -> None:
    source = io.BytesIO(SHEET.read_bytes())
    with ZipFile(source) as old, ZipFile(tmp_path / "log.xlsx", "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member).replace(b'<row r="3"', b'<row r="2000000000"'))
    assert "row 1048577: is beyond the 1,048,576 rows of a spreadsheet" in refused(tmp_path / "log.xlsx")


def test_a_cell_that_a_workbook_leaves_out_is_an_empty_answer(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["index", "question", "answer", "prediction"], [1, "Which?", "red", "red"], [2, "Which?", "red"]):
        book.active.append(row)
    book.save(tmp_path / "log.xlsx")
    assert [r.text for r in read_responses(tmp_path / "log.xlsx")] == ["red", ""]


def test_a_row_of_text_may_end_before_columns_that_state_no_answer(tmp_path: Path) -> None:
    log = written(tmp_path / "log.csv", "question,answer,prediction,hit,note\nWhich?,red,red,1")
    assert [r.graded().verdict.correct for r in read_responses(log)] == [True]


def test_numbers_in_cells_lose_the_fraction_that_spreadsheets_give_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (
        ["index", "question", "answer", "prediction"],
        [1, "How many?", 12.0, 12],
        [2, "How much?", 0.5, "0.5"],
    ):
        book.active.append(row)
    book.save(tmp_path / "log.xlsx")
    assert [r.sample.answer.value for r in read_responses(tmp_path / "log.xlsx")] == ["12", "0.5"]


def test_a_log_is_known_by_its_content(tmp_path: Path) -> None:
    for source in (EVAL, SHEET):
        copied = tmp_path / "log"
        shutil.copy(source, copied)
        assert list(read_responses(copied))
