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
from command_line import command_line

RAY = str(Path(sys.executable).with_name("ray"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """URL of the job server of a head of our own; ended by its own process group."""
    before = dict(os.environ)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
    port = free_port()
    temp = tmp_path_factory.mktemp("r")  # short: Ray puts sockets below it
    # ports of its own: another Ray may run on this machine
    command = [
        RAY, "start", "--head", "--block", f"--port={free_port()}", f"--dashboard-port={port}",
        f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={temp}", "--dashboard-host=127.0.0.1",
        "--include-dashboard=true", "--num-cpus=2", "--object-store-memory=200000000",
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    log = (temp / "head.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        os.environ.clear()
        os.environ.update(before)


def wait_for(url, process):
    """Until the job server takes jobs: it answers some seconds before its agent does."""
    probe = [RAY, "job", "submit", "--address", url, "--", "true"]
    for _ in range(30):
        assert process.poll() is None, "the head ended"
        if subprocess.run(probe, capture_output=True, timeout=60).returncode == 0:
            return
        time.sleep(1.0)
    raise AssertionError("no job was taken")


RAYS_OWN = {"JobSupervisor", "ActorLocationTracker", "_AutoscalingCoordinatorActor", "_StatsActor"}
"""Actors that Ray and Ray Data keep for the life of a cluster."""


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
    wait_until_empty(head)


def wait_until_empty(url):
    """Nothing of a run that is over lives on a cluster that was there before it."""
    ask = urllib.request.Request(
        f"{url}/api/v0/actors?limit=10000", headers={"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    )
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(ask, timeout=30) as reply:
            actors = json.load(reply)["data"]["result"]["result"]
        alive = {actor["class_name"] for actor in actors if actor["state"] == "ALIVE"} - RAYS_OWN
        if not alive:
            return
        assert time.monotonic() < deadline, alive
        time.sleep(1.0)


def test_submit_sends_the_yaml_and_follows_the_job_to_its_error(head, one_round, tmp_path):
    done = command_line("submit", one_round, "--address", head, "--run-dir", tmp_path / "run", "--wait",
                        "--set", "probe.source=/does/not/exist")  # fmt: skip
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "/does/not/exist: does not exist" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
