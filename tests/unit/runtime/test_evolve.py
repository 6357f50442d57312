import pytest
import yaml

from dpe_ray.config import parse_config
from dpe_ray.errors import ModelUnavailable
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
        told = []

        def fail(what):
            if what:
                raise what

        monkeypatch.setattr(evolve, "_on_ray", lambda *_: fail(error))
        monkeypatch.setattr(evolve, "write_report", lambda _: fail(report_error))
        config = parse_config(yaml.safe_load(CONFIG), "test")
        with pytest.raises(type(error)) as caught:
            evolve.evolve(config, tmp_path / "run", notify=told.append)
        assert caught.value is error
        return RunFolder(tmp_path / "run").summary()["status"], " ".join(told)

    return end_with


def test_an_error_of_ours_leaves_failed_and_an_interrupt_running(run):
    assert run(ModelUnavailable("teacher is down")) == ("failed", "")
    status, told = run(KeyboardInterrupt())
    assert "goes on from here" in told
    assert status == "failed"  # as it was found: an interrupt writes no status


@pytest.mark.parametrize("error", [ModelUnavailable("teacher is down"), KeyboardInterrupt()])
def test_a_report_that_cannot_be_written_is_told_and_hides_nothing(run, error):
    _, told = run(error, report_error=KeyError("verdicts"))
    assert "no report: KeyError: 'verdicts'" in told
