"""Bad input at the command line: one line that names the border and what to do, exit status 2, no traceback."""

import io
import json
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dpe_ray import cli
from dpe_ray.cli import main


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("run", "jobs/micro.yaml", "--set", "train.stepz=3"), "train.stepz: no such key"),
        (("run", "jobs/micro.yaml", "--set", "train.steps=many"), "train.steps: Input should be a valid integer"),
        (("run", "jobs/micro.yaml", "--set", "supply.pass_rate=[0.9, 0.1]"), "is no band"),
        (("run", "jobs/micro.yaml", "--set", "preset=none"), "no preset 'none'"),
        (("run", "jobs/micro.yaml", "--set", "roles.default=nobody"), "no model 'nobody'"),
        (("run", "jobs/micro.yaml", "--run-dir", "s3://bucket/run"), "is a URL"),
        (("run", "jobs/micro.yaml", "--set", "name=a b"), "'a b' names no folder"),
        (
            ("run", "jobs/micro.yaml", "--run-dir", "runs/none", "--set", "models.teacher.engine=oracel"),
            "did you mean oracle?",
        ),
        (("submit", "jobs/micro.yaml", "--address", "127.0.0.1"), "127.0.0.1: no job was taken"),
        (("resume", "nowhere"), "no run here"),
        (("serve", "jobs/micro.yaml", "--host", "0.0.0.0"), "name a variable with --api-key-env"),
        (("serve", "jobs/micro.yaml", "--api-key-env", "KEY_THAT_NOBODY_SET"), "$KEY_THAT_NOBODY_SET is empty"),
        (("serve", "jobs/micro.yaml", "--image-urls", "*"), "'*' is no place"),
        (("show", "nowhere"), "summary.json is missing"),
        (("report", "nowhere"), "summary.json is missing"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, told):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err


@pytest.fixture
def tiny(tmp_path):
    """A run of one labelled item per set and one pool image, with a teacher that is never reached."""
    (tmp_path / "pool").mkdir()
    pictures = [io.BytesIO() for _ in range(3)]
    for shade, picture in enumerate(pictures):
        Image.new("RGB", (16, 16), (80 * shade, 0, 0)).save(picture, "PNG")
    (tmp_path / "pool" / "a.png").write_bytes(pictures[0].getvalue())
    for name, picture in (("probe", pictures[1]), ("gate", pictures[2])):
        row = {"image": picture.getvalue(), "question": "What?", "answer": "1", "category": "map"}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
    tree = {
        "name": "tiny",
        "models": {
            "student": {"source": "none", "engine": "transformers"},
            "teacher": {"base_url": "http://127.0.0.1:9/v1"},
        },
        "pool": {"source": str(tmp_path / "pool")},
        "probe": {"source": str(tmp_path / "probe.parquet"), "size": 1},
        "decision": {"suite": str(tmp_path / "gate.parquet")},
    }
    yaml_file = tmp_path / "tiny.yaml"
    yaml_file.write_text(yaml.safe_dump(tree))
    return str(yaml_file), tmp_path


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pool.source=/does/not/exist", "/does/not/exist: does not exist"),
        ("probe.source=/does/not/exist.parquet", "/does/not/exist.parquet: does not exist"),
        ("pool.source=builtin:nothing", "no such built-in"),
        ("models.student.source=builtin:nothing", "no such built-in"),
    ],
)
def test_a_missing_source_is_told_before_anything_heavy_starts(capsys, tiny, override, told):
    file, folder = tiny
    code, _, err = said(capsys, "run", file, "--run-dir", str(folder / "run"), "--set", override)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_an_empty_pool_says_so(capsys, tiny):
    file, folder = tiny
    (folder / "pool" / "a.png").unlink()
    code, _, err = said(capsys, "run", file, "--run-dir", str(folder / "run"))
    assert code == 2
    assert "holds no image" in err


def test_sets_that_share_an_image_are_refused(capsys, tiny):
    file, folder = tiny
    (folder / "gate.parquet").write_bytes((folder / "probe.parquet").read_bytes())
    code, _, err = said(capsys, "run", file, "--run-dir", str(folder / "run"))
    assert code == 2
    assert "probe and gate share 1 images" in err


def test_a_hostile_picture_in_a_measured_set_is_told_by_row(capsys, tiny):
    file, folder = tiny
    row = {"image": b"\x89PNG\r\n\x1a\ntruncated", "question": "What?", "answer": "1", "category": "map"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "gate.parquet")
    code, _, err = said(capsys, "run", file, "--run-dir", str(folder / "run"))
    assert code == 2
    assert "gate.parquet row 0" in err
    assert len(err.strip().splitlines()) == 1


def test_another_config_in_the_same_directory_shows_the_difference(capsys, tmp_path):
    folder = tmp_path / "run"
    (folder / "rounds" / "01").mkdir(parents=True)
    (folder / "rounds" / "01" / "plan.json").touch()
    (folder / "config.json").write_text(json.dumps({"config": {"seed": 5}}))
    code, _, err = said(capsys, "run", "jobs/micro.yaml", "--run-dir", str(folder))
    assert code == 2
    assert "holds a run with another config" in err
    assert "--fresh" in err


def test_doctor_names_what_a_run_would_miss(capsys, tmp_path):
    yaml = tmp_path / "run.yaml"
    text = (
        "name: x\nmodels:\n  student: {source: s, engine: nothing}\n"
        "  teacher: {base_url: 'http://127.0.0.1:9/v1', api_key_env: KEY_THAT_NOBODY_SET}\n"
        "pool: {source: p}\nprobe: {source: b}\ndecision: {suite: g}\n"
    )
    yaml.write_text(text)
    code, out, _ = said(capsys, "doctor", str(yaml))
    assert code == 1
    missing = [line for line in out.splitlines() if line.startswith("MISS")]
    assert any("engine nothing" in line for line in missing)
    assert any("KEY_THAT_NOBODY_SET is not set" in line for line in missing)
    assert any("http://127.0.0.1:9/v1" in line for line in missing)


@pytest.fixture
def signals():
    """Gives back to this process what it does on signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_scripts_background_job_which_ignores_interrupts_at_its_start_can_be_ended(monkeypatch, signals, sent):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(cli, "app", lambda arguments: signal.raise_signal(sent))
    with pytest.raises(KeyboardInterrupt):
        main([])


@pytest.mark.parametrize("where", ["dpe_ray.config.load_config", "dpe_ray.runtime.evolve.RunFolder.open"])
def test_an_interrupt_at_any_time_of_a_run_is_told_once(monkeypatch, capsys, tmp_path, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    code, out, err = said(capsys, "run", "jobs/micro.yaml", "--run-dir", str(tmp_path / "run"))
    assert (code, out, err) == (130, "interrupted; the same command, without --fresh, goes on from here\n", "")


def test_an_interrupt_while_the_command_line_is_being_imported_is_one_line():
    code = (
        "import sys, builtins; from dpe_ray.__main__ import main\n"
        "def interrupt(*a, **k): raise KeyboardInterrupt\n"
        "builtins.__import__ = interrupt\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "interrupted before anything began\n")


def test_doctor_takes_overrides(capsys):
    code, out, _ = said(capsys, "doctor", "jobs/micro.yaml", "--set", "decision.suite=builtin:micro-gte")
    assert code == 1
    assert "MISS  decision.suite: builtin:micro-gte: no such built-in (did you mean micro-gate?)" in out
