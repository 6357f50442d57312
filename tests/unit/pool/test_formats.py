"""The published forms, with rows as their files really hold them, down to samples."""

import base64
import csv
import json
import logging
import tracemalloc
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from builders import make_png, write_png
from PIL import Image

from dpe_ray.errors import PoolError
from dpe_ray.models.images import MAX_BYTES
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples, stream_samples
from dpe_ray.types import AnswerKind, Rejection, Sample

OVEN = (
    "Given an image of a common electronic appliance from around the house, identify the type of object it is. "
    "It could be an appliance that is commonly used in the kitchen to cook or store food.\n"
    "Options: (a) This image contains an oven (b) This image contains a refrigerator (c) This image contains a sink "
    "(d) This image contains a toaster (e) This image contains a microwave\n<image>"
)
"""A question of Vision-Flan, word for word."""


def read(file: Path, split: str = "") -> tuple[Sample, ...]:
    return read_samples(str(file) + split, ImageStore(file.parent / "store"))


def write_conversations(folder: Path, *rows: dict[str, Any]) -> Path:
    write_png(folder / "images_191task_1k/a.png", 1)
    write_png(folder / "images_191task_1k/b.png", 2)
    file = folder / "annotation.json"
    file.write_text(json.dumps(list(rows)))
    return file


def conversation(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": "x", "image": "a.png", "conversations": turns} | fields


def test_a_vision_flan_row_becomes_a_choice_with_its_task_as_category(tmp_path: Path) -> None:
    task = "coco+image_classification_appliance"
    row = conversation(OVEN, "(e) This image contains a microwave", task_name=task)
    (sample,) = read(write_conversations(tmp_path, row))
    assert (sample.answer.kind, sample.answer.value) == (AnswerKind.CHOICE, "E")
    assert sample.options[0] == "This image contains an oven"
    assert len(sample.options) == 5
    assert sample.category == task
    assert sample.question.endswith("cook or store food.")
    assert Path(sample.images[0].uri).read_bytes() == make_png(1)


def test_a_llava_row_keeps_its_first_turn_and_counts_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = conversation("<image>\nWhat is it?", "A cup.", image="b.png")
    long["conversations"] += [{"from": "human", "value": "And behind?"}, {"from": "gpt", "value": "A lamp."}]
    text_only = conversation("Who wrote it?", "Homer")
    del text_only["image"]
    file = write_conversations(tmp_path, long, text_only, conversation("<image>\nWhy?", ""), conversation("Q?", "12"))
    with caplog.at_level(logging.WARNING):
        cup, twelve = read(file)
    assert (cup.question, cup.answer.value, cup.answer.kind) == ("What is it?", "A cup.", AnswerKind.TEXT)
    assert twelve.answer.kind is AnswerKind.NUMBER
    told = " ".join(caplog.messages)
    for part in ("1 rows with more turns", "1 rows without an image", "1 rows without an answer"):
        assert part in told


def test_all_images_of_a_file_come_from_the_folder_of_the_first(tmp_path: Path) -> None:
    write_png(tmp_path / "aaa/b.png", 9)
    rows = [conversation(f"{name}?", "Yes.", image=name) for name in ("a.png", "b.png")]
    samples = read(write_conversations(tmp_path, *rows))
    assert [Path(s.images[0].uri).read_bytes() for s in samples] == [make_png(1), make_png(2)]


def test_an_answer_that_is_none_of_its_options_is_refused_and_counted(tmp_path: Path) -> None:
    question = "Which?\nA. one car\nB. two"
    file = write_conversations(tmp_path, conversation(question, "Neither."), conversation(question, "One car.", id="y"))
    with pytest.raises(PoolError, match=r"row 0 \(id x\): answer 'Neither.' is none of its options"):
        read(file)
    refused: list[Rejection] = []
    (sample,) = read_samples(str(file), ImageStore(tmp_path / "store"), refused=refused)
    assert (sample.answer.value, sample.options) == ("A", ("one car", "two"))
    assert [(r.gate, r.slot) for r in refused] == [("row", 0)]


def test_an_answer_line_behind_reasons_is_the_answer_and_they_are_the_rationale(tmp_path: Path) -> None:
    (sample,) = read(write_conversations(tmp_path, conversation("How many?", "1. I count two.\nanswer: 2")))
    assert (sample.answer.value, sample.rationale) == ("2", "1. I count two.")


PROBLEM = {
    "question": "Which of these states is farthest north?",
    "choices": ["West Virginia", "Louisiana", "Arizona", "Oklahoma"],
    "answer": 0,
    "hint": "",
    "image": "image.png",
    "task": "closed choice",
    "grade": "grade2",
    "subject": "social science",
    "topic": "geography",
    "category": "Geography",
    "skill": "Read a map: cardinal directions",
    "lecture": "Maps have four cardinal directions, or main directions.",
    "solution": "To find the answer, look at the compass rose.",
    "split": "train",
}
"""The keys of a problem as problems.json has them."""


def write_problems(folder: Path, **problems: dict[str, Any]) -> Path:
    for key, problem in problems.items():
        if problem.get("image"):
            write_png(folder / "images" / problem["split"] / key / problem["image"], int(key[1:]))
    (folder / "pid_splits.json").write_text(json.dumps({"train": list(problems)}))
    file = folder / "problems.json"
    file.write_text(json.dumps(problems))
    return file


def test_a_scienceqa_problem_becomes_a_choice_with_lecture_and_solution_as_rationale(tmp_path: Path) -> None:
    write_problems(tmp_path, p1=PROBLEM)
    (sample,) = read(tmp_path)
    assert (sample.answer.value, sample.options[0], sample.category) == ("A", "West Virginia", "geography")
    assert sample.skills == ("Read a map: cardinal directions",)
    assert sample.rationale == f"{PROBLEM['lecture']}\n{PROBLEM['solution']}"
    assert Path(sample.images[0].uri).read_bytes() == make_png(1)


def test_scienceqa_questions_of_other_splits_and_without_image_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problems = {f"p{i}": PROBLEM | {"split": split} for i, split in enumerate(("train", "test", "val"))}
    file = write_problems(tmp_path, **problems, p9=PROBLEM | {"image": None, "hint": "Think.", "split": "test"})
    with caplog.at_level(logging.WARNING):
        (sample,) = read(file, "#test")
    assert Path(sample.images[0].uri).read_bytes() == make_png(1)
    assert any("2 rows of another split" in line for line in caplog.messages)
    assert any("1 rows without an image" in line for line in caplog.messages)


def write_table(file: Path, *rows: dict[str, str]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, list(rows[0]), delimiter="\t", restval="", quoting=csv.QUOTE_ALL)
        table.writeheader()
        table.writerows(rows)
    return file


def bench(index: int, image: str, **cells: str) -> dict[str, str]:
    known = {"question": f"Which, {index}?", "hint": "", "A": "one", "B": "two", "C": "", "D": "", "answer": "B"}
    labels = {"category": "image_scene", "l2-category": "coarse_perception", "split": "dev"}
    return {"index": str(index), "image": image} | known | labels | cells


def encoded(seed: int, size: int = 64) -> str:
    return base64.b64encode(make_png(seed, size)).decode()


def test_an_mm_bench_row_becomes_a_choice_with_both_levels_of_ability(tmp_path: Path) -> None:
    row = bench(241, encoded(3), hint='He said "no",\n\tthen left.')
    (sample,) = read(write_table(tmp_path / "MMBench_DEV_EN.tsv", row))
    assert sample.options == ("one", "two")
    assert (sample.answer.value, sample.category, sample.skills) == ("B", "coarse_perception", ("image_scene",))
    assert sample.question == 'He said "no",\n\tthen left.\nWhich, 241?'
    assert Path(sample.images[0].uri).read_bytes() == make_png(3)


def test_an_image_may_be_that_of_a_row_before_or_behind(tmp_path: Path) -> None:
    rows = [bench(1000002, "2"), bench(1, encoded(1)), bench(2, encoded(2)), bench(1000001, "1")]
    samples = read(write_table(tmp_path / "bench.tsv", *rows))
    assert [Path(s.images[0].uri).read_bytes() for s in samples] == [make_png(i) for i in (2, 1, 2, 1)]


def test_several_images_and_images_by_path_are_read(tmp_path: Path) -> None:
    several = bench(1, f"['{encoded(1)}', '{encoded(2)}']") | {"image_path": ""}
    write_png(tmp_path / "LMUData/images/x.png", 4)
    by_path = bench(2, "") | {"image_path": "images/x.png"}
    two, one = read(write_table(tmp_path / "bench.tsv", several, by_path))
    assert [Path(i.uri).read_bytes() for i in two.images] == [make_png(1), make_png(2)]
    assert Path(one.images[0].uri).read_bytes() == make_png(4)


BROKEN_ROWS = [
    bench(1, "7"),
    bench(1, "x" * 99),
    bench(1, base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode()),
    bench(1, encoded(1), answer=""),
    bench(1, encoded(1), answer="E"),
    bench(1, encoded(1), D="four"),
]


@pytest.mark.parametrize("row", BROKEN_ROWS)
def test_a_bad_row_of_a_table_is_one_line_with_file_and_row(tmp_path: Path, row: dict[str, str]) -> None:
    file = write_table(tmp_path / "bench.tsv", bench(0, encoded(0)), row)
    with pytest.raises(PoolError, match=r"bench\.tsv line 3 \(id 1\): ") as error:
        read(file)
    assert len(str(error.value).splitlines()) == 1


def write_lines(file: Path, *lines: str) -> Path:
    columns = "index\timage\tquestion\tA\tB\tanswer"
    file.write_text("\n".join([columns, *lines]) + "\n")
    return file


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"7\t{encoded(1)}\tWhich?\tone\ttwo", "line 2 \\(id 7\\): has 5 cells for 6 columns; put a cell with a tab"),
        (f"7\t{encoded(1)}\tWhich?\tone\ttwo\tB\tC", "line 2 \\(id 7\\): has 7 cells for 6 columns"),
        (f"7\t{'x!' * 40}\tWhich?\tone\ttwo\tB", "is no base64; a path belongs in a column image_path"),
        ("7\tpics/a.png\tWhich?\tone\ttwo\tB", "'pics/a.png', which has none; a path belongs in a column image_path"),
    ],
)
def test_a_bad_row_of_a_table_says_what_to_do_and_others_are_read(tmp_path: Path, line: str, told: str) -> None:
    file = write_lines(tmp_path / "bench.tsv", line, f"8\t{encoded(2)}\tWhich?\tone\ttwo\tB")
    with pytest.raises(PoolError, match=told):
        read(file)
    refused: list[Rejection] = []
    assert len(read_samples(str(file), ImageStore(tmp_path / "store"), refused=refused)) == 1
    assert len(refused) == 1


@pytest.mark.parametrize("column", [2, 5])
def test_an_unclosed_quote_is_told_with_the_line_on_which_it_begins(tmp_path: Path, column: int) -> None:
    cells = ["7", encoded(1), "Which?", "one", "two", "B"]
    cells[column] = f'"{cells[column]}'
    sound = [f"{i}\t{encoded(2)}\tWhich?\tone\ttwo\tB" for i in range(3)]
    file = write_lines(tmp_path / "bench.tsv", sound[0], "\t".join(cells), *sound[1:])
    with pytest.raises(PoolError, match=r"bench\.tsv line 3: close every quote"):
        read(file)


def test_a_table_parted_by_commas_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "bench.tsv").write_text("index,image,question,answer\n")
    with pytest.raises(PoolError, match="part them with tabs, not commas"):
        read(tmp_path / "bench.tsv")


def test_a_broken_picture_is_named_by_id_and_path(tmp_path: Path) -> None:
    file = write_conversations(tmp_path, conversation("Q?", "A.", id="q17", image="torn.png"))
    (tmp_path / "images_191task_1k/torn.png").write_bytes(b"no picture")
    with pytest.raises(PoolError, match=r"annotation\.json row 0 \(id q17\): image torn\.png: is no readable PNG"):
        read(file)


def test_rows_of_our_own_in_a_json_list_are_told_to_be_lines(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps([{"question": "Q?", "answer": "A", "image": "a.png"}]))
    with pytest.raises(PoolError, match=r"read from JSONL: .* one object per line"):
        read(tmp_path / "set.json")


@pytest.mark.parametrize(
    "change",
    [{"image": "gone.png"}, {"choices": "AB"}, {"answer": 9}, {"answer": "A"}, {"question": ""}, {"choices": []}],
)
def test_a_bad_problem_is_one_line_with_file_and_key(tmp_path: Path, change: dict[str, Any]) -> None:
    file = write_problems(tmp_path, p1=PROBLEM)
    file.write_text(json.dumps({"p1": PROBLEM | change}))
    with pytest.raises(PoolError, match=r"problems\.json problem p1: ") as error:
        read(file)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [{"image": "gone.png"}, {"conversations": None}, {"conversations": ["x"]}, {"conversations": [{"from": "human"}]}],
)
def test_a_bad_conversation_is_one_line_with_file_and_row(tmp_path: Path, change: dict[str, Any]) -> None:
    file = write_conversations(tmp_path, conversation("Q?", "A."), conversation("Q?", "A.") | change)
    with pytest.raises(PoolError, match=r"annotation\.json row 1 \(id x\): ") as error:
        read(file)
    assert len(str(error.value).splitlines()) == 1


HOSTILE = [
    b"",
    b"\x00",
    b"[",
    b"[1]",
    b"{",
    b'{"a": 1}',
    b'"text"',
    b"\xff\xfe[",
    b"[" * 100_000,
    b'[{"conversations": [{',
]


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("name", ["set.json", "set.tsv"])
def test_hostile_files_are_pool_errors_of_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PoolError) as error:
        read(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1


def test_a_cell_beyond_all_images_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    file = write_table(tmp_path / "bench.tsv", bench(1, "A" * (MAX_BYTES * 4 // 3 + 9)))
    with pytest.raises(PoolError, match=r"bench\.tsv line 2 \(id 1\): image: more than"):
        read(file)


@pytest.mark.parametrize("name", ["set.tsv", "set.json"])
def test_a_set_is_read_with_the_bytes_of_few_images_in_memory(tmp_path: Path, name: str) -> None:
    """Forty images of noise, 16 MB as bytes, go through in less than half of that."""
    pictures = [make_noise(seed) for seed in range(40)]
    if name == "set.tsv":
        write_table(tmp_path / name, *(bench(i, base64.b64encode(p).decode()) for i, p in enumerate(pictures)))
    else:
        for i, picture in enumerate(pictures):
            (tmp_path / f"{i}.bmp").write_bytes(picture)
        rows = [conversation(f"Q {i}?", "A.", image=f"{i}.bmp") for i in range(40)]
        (tmp_path / name).write_text(json.dumps(rows))
    total = sum(map(len, pictures))
    del pictures
    next(stream_samples(str(tmp_path / name), ImageStore(tmp_path / "first")))  # what reading imports is no set's
    tracemalloc.start()
    count = sum(1 for _ in stream_samples(str(tmp_path / name), ImageStore(tmp_path / "store")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40
    assert peak < total / 2


def make_noise(seed: int) -> bytes:
    """A bitmap of 400 KB that no compression makes smaller."""
    buffer = BytesIO()
    Image.frombytes("RGB", (368, 368), Random(seed).randbytes(368 * 368 * 3)).save(buffer, "BMP")
    return buffer.getvalue()
