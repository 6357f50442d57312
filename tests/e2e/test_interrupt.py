"""A signal in the middle of training: the run ends at once, and the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from command_line import command_line, in_background

ENDS_WITHIN_S = 20
"""On an idle machine it is 3 to 5."""


@pytest.fixture
def one_round(small_yaml, tmp_path):
    tree = yaml.safe_load(small_yaml.read_text()) | {"rounds": 1, "final": []}
    tree["probe"]["size"], tree["plan"]["total"], tree["train"]["steps"] = 20, 8, 6
    file = tmp_path / "one.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def ignore_interrupts():
    """As in the background job of a script: the harder case."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def wait_for(condition, process, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.1)


def test_sigterm_in_training_ends_the_run_at_once_and_the_same_command_goes_on(one_round, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "dpe_ray", "run", str(one_round), "--run-dir", str(run)]
    with in_background(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=ignore_interrupts,
    ) as process:
        wait_for(lambda: list(run.glob("rounds/01/policy*/*")), process)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        out, err = process.communicate(timeout=120)
    assert time.monotonic() - start < ENDS_WITHIN_S
    assert process.returncode == 130, err
    assert "goes on from here" in out
    assert "Traceback" not in out + err
    assert "(raylet)" not in out + err
    assert json.loads((run / "summary.json").read_text())["status"] == "running"
    assert (run / "report.html").exists()
    calls = sum(len(file.read_text().splitlines()) for file in run.glob("journal/01-supply/*.jsonl"))

    again = command_line("resume", run)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "summary.json").read_text())["status"] == "complete"
    assert sum(len(file.read_text().splitlines()) for file in run.glob("journal/01-supply/*.jsonl")) == calls


def test_a_test_that_fails_ends_the_run_that_it_began():
    with pytest.raises(AssertionError), in_background(["sleep", "600"]) as process:
        raise AssertionError
    assert process.returncode == -signal.SIGKILL
