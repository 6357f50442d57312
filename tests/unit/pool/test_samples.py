import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_png, write_png

from dpe_ray.errors import PoolError, PoolUnreachable
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.types import AnswerKind, Rejection, Sample


def read(tmp_path: Path, *rows: dict[str, Any]) -> tuple[Sample, ...]:
    write_png(tmp_path / "a.png")
    lines = [json.dumps({"image": "a.png", "question": "What?", "answer": "red"} | row) for row in rows]
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    return read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"))


def test_parquet_columns_become_samples(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["x", "y"],
            "image": [make_png(1), make_png(2)],
            "question": ["Which?", "How many?"],
            "options": [["one", "two"], []],
            "answer": ["B", "12"],
            "kind": ["choice", "number"],
            "aliases": [[], ["twelve"]],
            "tolerance": [0.0, 0.5],
            "category": ["map", "medical"],
        }
    )
    pq.write_table(table, tmp_path / "set.parquet")
    which, many = read_samples(str(tmp_path / "set.parquet"), ImageStore(tmp_path / "images"))
    assert (which.answer.kind, which.answer.value, which.options, which.category) == (
        AnswerKind.CHOICE,
        "B",
        ("one", "two"),
        "map",
    )
    assert (many.answer.kind, many.answer.tolerance, many.answer.aliases) == (AnswerKind.NUMBER, 0.5, ("twelve",))
    assert Path(which.images[0].uri).read_bytes() == make_png(1)


def test_the_kind_is_told_from_options_and_answer(tmp_path: Path) -> None:
    samples = read(tmp_path, {"options": ["red", "blue"]}, {"answer": 12}, {"answer": "12 Monkeys"})
    assert [s.answer.kind for s in samples] == [AnswerKind.CHOICE, AnswerKind.NUMBER, AnswerKind.TEXT]
    assert samples[0].answer.value == "A"


def test_a_row_without_category_is_mixed_and_a_repeated_row_counts_once(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, {}, {})
    assert sample.category == "mixed"


@pytest.mark.parametrize(
    "row",
    [
        {"question": ""},
        {"question": None},
        {"answer": None},
        {"answer": {"x": 1}},
        {"image": "gone.png"},
        {"image": None},
        {"image": 3},
        {"options": "AB"},
        {"options": ["one"]},
        {"options": ["a", "b"], "answer": "c"},
        {"kind": "list"},
        {"kind": "number"},
        {"kind": "choice"},
        {"tolerance": "wide"},
        {"tolerance": -1},
        {"tolerance": float("nan")},
        {"category": "a/b"},
        {"options": [str(i) for i in range(30)]},
    ],
)
def test_a_bad_row_names_file_and_row_in_one_line(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(PoolError, match=r"set\.jsonl line 2: ") as error:
        read(tmp_path, {}, row)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{", b"[1]\n", b"\xff\xfe\x00", b'"' + b"[" * 100_000])
def test_hostile_files_are_pool_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.jsonl").write_bytes(content)
    with pytest.raises(PoolError):
        read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"))


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_broken_picture_is_one_counted_rejection_of_a_set_that_is_learned_from(
    tmp_path: Path, content: bytes
) -> None:
    write_png(tmp_path / "a.png")
    (tmp_path / "torn.png").write_bytes(content)
    rows = [{"image": name, "question": "What?", "answer": "red", "id": name[0]} for name in ("torn.png", "a.png")]
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n{broken\n")
    refused: list[Rejection] = []
    (sample,) = read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"), refused=refused)
    assert Path(sample.images[0].uri).read_bytes() == make_png()
    picture, line = refused
    assert picture.reason.startswith(f"{tmp_path}/set.jsonl line 1 (id t): image ")
    assert "torn.png" in picture.reason
    assert line.reason.startswith(f"{tmp_path}/set.jsonl line 3: is no JSON")
    with pytest.raises(PoolError, match=r"line 1 \(id t\): image .*torn\.png"):
        read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"), provenance="gate")


def test_a_set_of_which_no_row_can_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"question": "What?", "answer": "red", "image": "gone.png"}')
    with pytest.raises(PoolError, match=r"holds no sample; .* 1 rows cannot be used, such as .*gone\.png"):
        read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"), refused=[])


@pytest.mark.parametrize(("key", "meant"), [("anwser", "answer"), ("questoin", "question"), ("imgae", "image")])
def test_a_missing_key_names_the_nearest_that_the_row_has(tmp_path: Path, key: str, meant: str) -> None:
    row = {"image": "a.png", "question": "What?", "answer": "red"}
    row[key] = row.pop(meant)
    write_png(tmp_path / "a.png")
    (tmp_path / "set.jsonl").write_text(json.dumps(row))
    with pytest.raises(PoolError, match=f"the row has '{key}', rename it to {meant}"):
        read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"))


def test_a_misspelt_key_that_may_be_missing_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(tmp_path, {"optoins": ["red", "blue"], "colour": "red"})
    assert "1 rows with a key 'optoins' that is not read; is options meant?" in " ".join(caplog.messages)
    assert "colour" not in " ".join(caplog.messages)


def test_a_json_list_and_a_csv_are_told_to_become_lines(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    (tmp_path / "set.jsonl").write_text('[{"question": "What?"}]')
    with pytest.raises(PoolError, match="begins a JSON list; JSONL holds one object per line"):
        read_samples(str(tmp_path / "set.jsonl"), store, refused=[])
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/set.csv").write_text("question,answer\n")
    for source in ("tables", "tables/set.csv"):
        with pytest.raises(PoolError, match=r"has no \.parquet, .*save a CSV as JSONL"):
            read_samples(str(tmp_path / source), store)


def test_a_store_that_does_not_answer_leaves_no_row_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(file: int) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    read(tmp_path, {})
    monkeypatch.setattr("dpe_ray.models.images.os", SimpleNamespace(fstat=stale))
    with pytest.raises(PoolUnreachable, match=r"line 1: image .*a\.png.*Stale file handle"):
        read_samples(str(tmp_path / "set.jsonl"), ImageStore(tmp_path / "images"), refused=[])
