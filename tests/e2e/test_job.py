"""The same run as a Ray job, on a real head with its job server."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

RAY = str(Path(sys.executable).with_name("ray"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def head(tmp_path_factory, monkeypatch):
    """URL of the job server of a head of our own; ended by its own process group."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    port = free_port()
    temp = tmp_path_factory.mktemp("r")  # short: Ray puts sockets below it
    command = [
        RAY, "start", "--head", "--block", f"--port={free_port()}", f"--dashboard-port={port}", f"--temp-dir={temp}",
        "--dashboard-host=127.0.0.1", "--include-dashboard=true", "--num-cpus=2", "--object-store-memory=200000000",
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    log = (temp / "head.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_for(url, process):
    request = urllib.request.Request(
        f"{url}/api/version", headers={"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    )
    for _ in range(120):
        assert process.poll() is None, "the head ended"
        try:
            urllib.request.urlopen(request, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("no job server after a minute")


@pytest.fixture
def one_round(small_yaml, tmp_path):
    tree = yaml.safe_load(small_yaml.read_text()) | {"rounds": 1, "final": []}
    tree["train"]["steps"] = 1
    file = tmp_path / "one.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_evolve_runs_as_a_submitted_job(head, one_round, tmp_path):
    folder = tmp_path / "run"
    command = [RAY, "job", "submit", "--address", head, "--", sys.executable, str(Path("jobs/evolve.py").absolute()),
               str(one_round), "--run-dir", str(folder)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert len(summary["rounds"]) == 1


def test_submit_sends_the_yaml_and_follows_the_job(head, one_round, tmp_path, capsys):
    from dpe_ray.runtime.submit import submit_run

    lines = []
    job = submit_run(
        one_round,
        ("probe.source=/does/not/exist",),
        head,
        tmp_path / "run",
        sys.executable,
        wait=True,
        notify=lines.append,
    )
    assert job.status == "FAILED"
    assert any("/does/not/exist: does not exist" in line for line in lines)
