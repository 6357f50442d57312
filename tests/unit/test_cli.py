"""Bad input at the command line: one line that names the border and what to do, exit status 2, no traceback."""

import json

import pytest

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
        (("resume", "nowhere"), "no run here"),
        (("show", "nowhere"), "no summary.json"),
        (("report", "nowhere"), "no summary.json"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, told):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pool.source=/does/not/exist", "/does/not/exist: does not exist"),
        ("probe.source=/does/not/exist.parquet", "/does/not/exist.parquet: does not exist"),
        ("pool.source=builtin:nothing", "no such built-in"),
    ],
)
def test_a_missing_source_is_told_before_anything_heavy_starts(capsys, tmp_path, override, told):
    run = ("run", "jobs/micro.yaml", "--run-dir", str(tmp_path / "run"))
    code, _, err = said(capsys, *run, "--set", override)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_an_empty_pool_says_so(capsys, tmp_path):
    (tmp_path / "pool").mkdir()
    run = ("run", "jobs/micro.yaml", "--run-dir", str(tmp_path / "run"))
    code, _, err = said(capsys, *run, "--set", f"pool.source={tmp_path / 'pool'}")
    assert code == 2
    assert "holds no image" in err


def test_another_config_in_the_same_directory_shows_the_difference(capsys, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
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
