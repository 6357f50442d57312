"""What is exported can be read: by our own readers where there is one, by the format's types where not."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import make_png, make_sample
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from dpe_ray.errors import ConfigError, StoreError
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.rounds.export import export_run, reply_of
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import Sample


def make_run(folder: Path) -> tuple[RunFolder, tuple[Sample, ...]]:
    """A run of two rounds with a choice, a number and a text; one sample was accepted in both."""
    run = RunFolder.open(folder / "run", {"name": "tiny"})
    store = ImageStore(run.images)
    images = [store.put(make_png(seed)) for seed in range(3)]
    choice = make_sample("Which is it?", "B", options=("a fish", "a cup"), image=images[0], skills=("naming",))
    number = make_sample(
        "How wide?", "12.5", kind="number", tolerance=0.5, aliases=("twelve and a half",), image=images[1]
    )
    text = replace(make_sample("What colour?", "red", image=images[2]), rationale="1. I look at it.")
    run.round(1).save_samples((choice, number))
    run.round(2).save_samples((number, text))
    return run, (choice, number, text)


@pytest.mark.parametrize(("format_", "name"), [("verl", "out.parquet"), ("llava", "out.json")])
def test_samples_come_back_through_our_own_readers(tmp_path: Path, format_: str, name: str) -> None:
    run, samples = make_run(tmp_path)
    assert export_run(run, format_, tmp_path / "export" / name) == 3
    back = read_samples(str(tmp_path / "export" / name), ImageStore(tmp_path / "store"))
    for sample, again in zip(samples, back, strict=True):
        assert again.id == sample.id
        assert again.answer.kind is sample.answer.kind
        assert (again.category, again.skills, again.rationale) == (sample.category, sample.skills, sample.rationale)
        assert Path(again.images[0].uri).read_bytes() == Path(sample.images[0].uri).read_bytes()
    if format_ == "verl":
        assert [s.answer for s in back] == [s.answer for s in samples]


def test_a_runs_own_samples_are_a_set(tmp_path: Path) -> None:
    run, samples = make_run(tmp_path)
    back = read_samples(str(run.round(1).path / "samples.parquet"), ImageStore(tmp_path / "store"))
    assert [(s.id, s.answer) for s in back] == [(s.id, s.answer) for s in samples[:2]]


def test_verl_and_easy_r1_find_their_columns(tmp_path: Path) -> None:
    run, samples = make_run(tmp_path)
    export_run(run, "verl", tmp_path / "out.parquet")
    row = pq.read_table(tmp_path / "out.parquet").to_pylist()[0]
    assert row["prompt"] == [{"role": "user", "content": "<image>" + answer_prompt(samples[0]).text}]
    assert row["reward_model"] == {"style": "rule", "ground_truth": "B"}
    assert row["extra_info"] == {"split": "train", "index": 0, "id": samples[0].id}
    assert (row["data_source"], row["problem"]) == ("tiny", "<image>Which is it?\n(A) a fish\n(B) a cup")
    assert row["images"] == [{"bytes": make_png(0), "path": None}]


def test_messages_name_image_files_that_lie_beside_the_file(tmp_path: Path) -> None:
    run, samples = make_run(tmp_path)
    export_run(run, "messages", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for row, sample in zip(rows, samples, strict=True):
        assert row["messages"][0]["content"].count("<image>") == len(row["images"]) == 1
        assert (tmp_path / row["images"][0]).read_bytes() == Path(sample.images[0].uri).read_bytes()
        assert grade(sample, row["messages"][1]["content"]).correct


def test_openai_messages_are_valid_chat_messages_with_the_image_inside(tmp_path: Path) -> None:
    run, samples = make_run(tmp_path)
    export_run(run, "openai", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == len(samples)
    for seed, row in enumerate(rows):
        TypeAdapter(list[ChatCompletionMessageParam]).validate_python(row["messages"])
        url = row["messages"][0]["content"][0]["image_url"]["url"]
        assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == make_png(seed)


def test_a_run_that_was_moved_is_exported_from_its_own_images(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path)
    moved = RunFolder(run.path.rename(tmp_path / "elsewhere"))
    assert export_run(moved, "messages", tmp_path / "out.jsonl") == 3


def test_an_export_that_was_interrupted_leaves_no_half_picture_and_is_finished_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, samples = make_run(tmp_path)
    whole, pictures = Path.write_bytes, tmp_path / "out_images"

    def half(path: Path, data: bytes) -> int:
        whole(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", half)
        with pytest.raises(KeyboardInterrupt):
            export_run(run, "messages", tmp_path / "out.jsonl")
    assert list(pictures.glob("*.png")) == []
    export_run(run, "messages", tmp_path / "out.jsonl")
    assert {file.name: file.read_bytes() for file in pictures.iterdir()} == {
        f"{sample.images[0].sha256}.png": Path(sample.images[0].uri).read_bytes() for sample in samples
    }


@pytest.mark.parametrize("rationale", ["", "1. so", "1. so\nanswer: red"])
def test_a_reply_ends_with_one_answer_line(rationale: str) -> None:
    reply = reply_of(replace(make_sample(answer="red"), rationale=rationale))
    assert reply.splitlines()[-1] == "answer: red"
    assert reply.count("answer:") == 1


def test_an_unknown_format_and_a_run_without_samples_say_so(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path)
    with pytest.raises(ConfigError, match="there are messages, verl, llava, openai"):
        export_run(run, "csv", tmp_path / "out.csv")
    with pytest.raises(StoreError, match="no round has accepted samples"):
        export_run(RunFolder(tmp_path / "empty"), "llava", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
