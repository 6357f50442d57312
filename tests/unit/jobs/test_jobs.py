"""The job entry points are the command line, nothing more."""

import subprocess
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[3] / "jobs"


def call(script, *arguments):
    return subprocess.run([sys.executable, JOBS / script, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("arguments", [(), ("1",), ("0", "run.yaml"), ("run.yaml", "1")])
def test_round_without_a_number_and_a_yaml_says_how_it_is_called(arguments):
    done = call("round.py", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize(("script", "arguments"), [("round.py", ("2", "lost.yaml")), ("evolve.py", ("lost.yaml",))])
def test_both_hand_the_yaml_to_the_command_line(script, arguments):
    done = call(script, *arguments, "--set", "rounds=3")
    assert done.returncode == 2
    assert "config error: lost.yaml" in done.stderr
