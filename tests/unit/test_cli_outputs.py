"""The commands that read what was recorded and write what others read: their files and their bad input."""

import json
import re
from pathlib import Path

import pytest
from builders import make_png, make_sample

from dpe_ray.cli import main
from dpe_ray.pool.images import ImageStore
from dpe_ray.rounds.store import RunFolder, StageFolder
from dpe_ray.types import Diagnosis

ROW = {"id": "1", "question": "Which?", "options": ["one", "two"], "answer": "B", "category": "map"}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_diagnose_prints_accuracy_intervals_and_unparsable_answers_and_writes_the_diagnosis(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    responses = ["B", "A", "I cannot see it.", "answer: B"]
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(json.dumps(ROW | {"response": text}) for text in responses))
    code, out, _ = said(capsys, "diagnose", "--responses", str(file), "--out", str(tmp_path / "out"))
    assert code == 0
    line = next(line for line in out.splitlines() if "map" in line)
    assert "log's accuracy" not in out
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["map", "4", "2", "1", "0", "0.500", "0.150 - 0.850"]
    assert StageFolder(tmp_path / "out").load_json("diagnosis", Diagnosis).probed == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"diagnosis.json", "plan.json", "report.html"}
    assert "plan: 1,024 samples, plan.method tiered, plan.floor 0.02 (defaults; --config RUN.yaml sets others)" in out


def test_diagnose_says_what_its_words_mean_and_how_the_logs_own_scorer_judged_what_rules_leave_open(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [{"response": "B", "if_right": True}, {"response": "Hard to say.", "if_right": True}]
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(json.dumps(ROW | row) for row in rows))
    _, out, _ = said(capsys, "diagnose", "--responses", str(file), "--out", str(tmp_path / "out"))
    line = next(line for line in out.splitlines() if "map" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]][3:] == [
        "1",
        "0",
        "0.500",
        "0.095 - 0.905",
        "1.000",
        "1 of 1",
    ]
    for word in ("unparsable: ", "undecidable: ", "not judged: ", "log's accuracy: "):
        assert word in out


def test_diagnose_shows_how_many_answers_rules_cannot_decide(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    row = ROW | {"options": [], "answer": "red", "response": "It's red"}
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    _, out, _ = said(
        capsys, "diagnose", "--responses", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "diagnosis")
    )
    head, line = (next(line for line in out.splitlines() if word in line) for word in ("category", "map"))
    assert [cell.strip() for cell in head.split("┃")[1:-1]][3:5] == ["unparsable", "undecidable"]
    assert [cell.strip() for cell in line.split("│")[1:-1]][:5] == ["map", "1", "0", "0", "1"]


def test_diagnose_says_where_it_cannot_write(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(ROW | {"response": "B"}))
    (tmp_path / "taken").write_text("a file")
    code, _, err = said(
        capsys, "diagnose", "--responses", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "taken")
    )
    assert code == 2
    assert re.search(r"--out .*taken: cannot be written .*give a folder", " ".join(err.split()))


def test_a_categorys_name_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(ROW | {"category": "map\x1b[2J", "response": "B"}))
    code, out, _ = said(capsys, "diagnose", "--responses", str(tmp_path / "log.jsonl"), "--out", str(tmp_path / "out"))
    assert code == 0
    assert "\x1b[2J" not in out


def test_the_help_of_diagnose_names_every_key_that_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "diagnose", "--help")
    for key in ("id", "options", "category", "subject", "skills", "kind", "aliases", "tolerance"):
        assert re.search(rf"\b{key}\b", out)


@pytest.mark.parametrize(
    ("format_", "name", "told"),
    [
        ("llava", "set.json", "a JSON list, pictures in set_images/"),
        ("messages", "set.jsonl", "JSONL, pictures in set_images/"),
        ("openai", "set.jsonl", "JSONL, pictures as data URIs in the lines"),
        ("verl", "set.parquet", "parquet, pictures in the table"),
        ("verl", "set.jsonl", "parquet, pictures in the table; readers expect a name in .parquet"),
    ],
)
def test_every_export_tells_path_rows_and_what_was_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, format_: str, name: str, told: str
) -> None:
    run = RunFolder.open(tmp_path / "run", {"name": "tiny"})
    run.round(1).save_samples([make_sample(image=ImageStore(run.images).put(make_png()))])
    code, out, _ = said(capsys, "export", str(run.path), "--format", format_, "--out", str(tmp_path / name))
    assert code == 0
    assert out.strip() == f"wrote 1 samples to {tmp_path / name}: {told}"
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("diagnose", "--responses", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
        (("diagnose", "--responses", "x.jsonl", "--set", "plan.total=3"), "--set changes a key of --config"),
        (("diagnose", "--responses", "x.jsonl", "--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("export", "nowhere", "--format", "csv", "--out", "x"), "there are messages, verl, llava, openai"),
        (("export", "nowhere", "--format", "llava", "--out", "x"), "no round has accepted samples"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err
