import json
from types import SimpleNamespace

import pytest
import yaml

from dpe_ray.config import parse_config
from dpe_ray.errors import ConfigError, ModelUnavailable
from dpe_ray.models.call_budget import Calls
from dpe_ray.models.price import Price
from dpe_ray.rounds.show import told
from dpe_ray.rounds.store import RunFolder
from dpe_ray.runtime import evolve

CONFIG = """
name: small
models:
  student: {source: none, engine: transformers}
  teacher: {base_url: "http://127.0.0.1:9/v1"}
pool: {source: none}
probe: {source: none, size: 1}
decision: {suite: none}
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a small config that ends with an error; gives status and what was told."""

    def end_with(error, report_error=None):
        notices = []

        def fail(what):
            if what:
                raise what

        monkeypatch.setattr(evolve, "_on_ray", lambda *_: fail(error))
        monkeypatch.setattr(evolve.preflight, "require", lambda *_, **__: None)
        monkeypatch.setattr(evolve, "write_report", lambda _: fail(report_error))
        config = parse_config(yaml.safe_load(CONFIG), "test")
        with pytest.raises(type(error)) as caught:
            evolve.evolve(config, tmp_path / "run", notify=notices.append)
        assert caught.value is error
        return RunFolder(tmp_path / "run").summary()["status"], " ".join(notices)

    return end_with


def test_an_error_of_ours_leaves_failed_and_an_interrupt_running(run):
    assert run(ModelUnavailable("teacher is down")) == ("failed", "")
    status, notices = run(KeyboardInterrupt())
    assert notices == ""
    assert status == "running"


def test_what_stopped_a_run_stands_in_its_summary_until_it_goes_on(run, tmp_path):
    run(ModelUnavailable("teacher is down"))
    assert RunFolder(tmp_path / "run").summary()["error"] == "teacher is down"
    assert "failed: teacher is down" in list(told(RunFolder(tmp_path / "run")))
    run(KeyboardInterrupt())
    assert RunFolder(tmp_path / "run").summary()["error"] == ""


def test_calls_of_a_round_that_never_closed_are_counted(run, tmp_path):
    journal = RunFolder(tmp_path / "run").journal("01-diagnose")
    journal.mkdir(parents=True)
    line = {"endpoint": "teacher", "images": 0, "attempts": 1, "prompt_tokens": 7, "completion_tokens": 3, "seconds": 1}
    lines = [line | {"key": role, "role": role} for role in ("judge", "student")]
    (journal / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(ModelUnavailable("teacher is down"))
    cost = RunFolder(tmp_path / "run").summary()["cost"]
    assert (cost["calls"], cost["teacher_calls"], cost["tokens"]) == (2, 1, 20)
    assert RunFolder(tmp_path / "run").summary()["budget"] == {"teacher_calls": {"spent": 1, "allowed": 20_000}}


@pytest.mark.parametrize("error", [ModelUnavailable("teacher is down"), KeyboardInterrupt()])
def test_a_report_that_cannot_be_written_is_told_and_hides_nothing(run, error):
    _, notices = run(error, report_error=KeyError("verdicts"))
    assert "no report: KeyError: 'verdicts'" in notices


def config_of(tmp_path):
    tree = yaml.safe_load(CONFIG) | {"rounds": 2}
    for part, key in (("pool", "source"), ("probe", "source"), ("decision", "suite")):
        tree[part][key] = str(tmp_path / "gone")
    return parse_config(tree, "test")


def test_what_is_missing_is_told_before_a_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match="gone: does not exist"):
        evolve.evolve(config_of(tmp_path), tmp_path / "run", notify=print)
    assert not (tmp_path / "run").exists()


def test_a_complete_run_reads_and_starts_nothing(tmp_path, monkeypatch):
    config, notices = config_of(tmp_path), []
    monkeypatch.setattr(evolve, "write_report", lambda run: notices.append("report"))
    RunFolder.open(tmp_path / "run", config.model_dump(mode="json")).write_summary({"status": "complete"})
    evolve.evolve(config, tmp_path / "run", notify=notices.append)
    assert notices[0].startswith("nothing to do")
    assert notices[1:] == ["report"]


def test_a_complete_run_begun_anew_is_looked_at_like_any_other(tmp_path):
    config = config_of(tmp_path)
    RunFolder.open(tmp_path / "run", config.model_dump(mode="json")).write_summary({"status": "complete"})
    with pytest.raises(ConfigError, match="gone: does not exist"):
        evolve.evolve(config, tmp_path / "run", fresh=True, notify=print)


def test_teachers_doors_know_the_budget_and_their_price_and_the_students_has_no_bound(tmp_path, monkeypatch):
    tree = yaml.safe_load(CONFIG)
    tree["models"]["teacher"]["price"] = {"input": 3.0, "output": 15.0}
    config, calls = parse_config(tree, "test"), Calls()
    monkeypatch.setattr("dpe_ray.runtime.quota_actor.start_calls", lambda: calls)
    monkeypatch.setattr("dpe_ray.runtime.data_map.DataMapper", lambda cpus: None)
    served = {"student": SimpleNamespace(url="http://127.0.0.1:9/v1", app="student")}
    machine = evolve._machine(config, RunFolder(tmp_path), config.models, served)
    teacher, student = (machine.door(role, "01-supply", 0) for role in ("validator", "student"))
    assert (teacher.price, teacher.budget) == (Price(input=3.0, output=15.0), calls)
    assert (student.price, student.budget) == (Price(), None)
    assert machine.calls is calls
