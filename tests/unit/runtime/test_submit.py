"""What is sent to a job server, and what is told when it refuses or the user leaves."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.job_submission
import yaml
from ray.exceptions import AuthenticationError

from dpe_ray.config import load_config
from dpe_ray.errors import ClusterError, ConfigError
from dpe_ray.runtime import submit
from dpe_ray.runtime.submit import absolute, submit_run

CONFIG = {
    "name": "x",
    "preset": "dpe",
    "models": {"student": {"source": "weights", "engine": "transformers"}, "teacher": {"base_url": "https://h/v1"}},
    "pool": {"source": "s3://bucket/images"},
    "support": {"source": "data/*.parquet#train"},
    "probe": {"source": "builtin:micro-probe"},
    "decision": {"suite": "data/gate.parquet"},
    "final": [{"suite": "/data/final.parquet"}, {"suite": "final.parquet"}],
    "supply": {"construct": {"programs": ["bar_chart", "own/dial.py:Dial"]}},
    "train": {"reward": {"accuracy": 1.0, "own/taste.py:short": 0.5}},
    "prompts": {"judge": "judge.jinja"},
    "taxonomy": "taxonomy.yaml",
}


@pytest.fixture
def file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path / "run.yaml"


@pytest.fixture
def server(monkeypatch):
    """A job server in this process; its `submit_job` and `get_job_status` may be replaced."""

    def taken(entrypoint, submission_id, runtime_env):
        here.entrypoint = entrypoint
        here.sent = (Path(runtime_env["working_dir"]) / "run.yaml").read_text()
        return submission_id

    here = SimpleNamespace(submit_job=taken, get_job_status=lambda job: SimpleNamespace(value="PENDING"))
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", lambda address: here)
    return here


def send(file, told, run_dir=None, wait=False, address="http://head:8265"):
    return submit_run(file, ("rounds=5",), address, run_dir, "python", wait=wait, notify=told.append)


def test_relative_paths_are_sent_as_absolute_ones_and_named(file, server):
    told = []
    send(file, told, run_dir=Path("out"))
    (file.parent / "sent.yaml").write_text(server.sent)
    sent, here = load_config(file.parent / "sent.yaml"), file.parent
    assert sent.support.source == f"{here}/data/*.parquet#train"
    assert sent.decision.suite == f"{here}/data/gate.parquet"
    assert [suite.suite for suite in sent.final] == ["/data/final.parquet", f"{here}/final.parquet"]
    assert (sent.prompts["judge"], sent.taxonomy) == (f"{here}/judge.jinja", f"{here}/taxonomy.yaml")
    assert sent.supply.construct.programs == ("bar_chart", f"{here}/own/dial.py:Dial")
    assert sent.train.reward == {"accuracy": 1.0, f"{here}/own/taste.py:short": 0.5}
    assert (sent.pool.source, sent.probe.source) == ("s3://bucket/images", "builtin:micro-probe")
    assert sent.models["student"].source == "weights"
    assert f"--run-dir {here}/out" in server.entrypoint
    own = "supply.construct.programs.1, train.reward.own/taste.py:short"
    assert f"{own}, support.source, decision.suite, taxonomy, final.1.suite, prompts.judge" in told[0]


def test_what_is_sent_is_the_same_run_but_for_its_paths(file):
    config = load_config(file, ("rounds=5",))
    tree, _ = absolute(config)
    (file.parent / "sent.yaml").write_text(yaml.safe_dump(tree))
    sent = load_config(file.parent / "sent.yaml")
    places = {"support", "decision", "final", "prompts", "taxonomy", "supply"}
    moved = dict.fromkeys(places, True) | {"train": {"reward"}}
    assert sent.model_dump(exclude=moved) == config.model_dump(exclude=moved)


def test_weights_in_a_directory_here_are_sent_by_their_path(file):
    (file.parent / "weights").mkdir()
    tree, moved = absolute(load_config(file))
    assert tree["models"]["student"]["source"] == f"{file.parent}/weights"
    assert "models.student.source" in moved


def test_a_run_directory_behind_a_url_is_refused_before_anything_is_sent(file, server):
    with pytest.raises(ConfigError, match="is a URL"):
        send(file, [], run_dir=Path("s3://bucket/run"))


@pytest.mark.parametrize("error", [ValueError("Invalid address format"), AuthenticationError("wrong token")])
def test_a_bad_address_and_a_wrong_token_are_one_line(file, server, error):
    def refuse(**_):
        raise error

    server.submit_job = refuse
    with pytest.raises(ClusterError, match=f"no job was taken.*{error.args[0]}.*RAY_AUTH_TOKEN") as caught:
        send(file, [])
    assert "\n" not in str(caught.value)


def test_who_stops_waiting_is_told_that_the_job_goes_on(file, server, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    server.get_job_logs, told = lambda job: "", []
    monkeypatch.setattr(submit.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        send(file, told, wait=True)
    assert "the job goes on" in told[-1]
    assert "ray job stop --address http://head:8265 dpe-x-" in told[-1]
