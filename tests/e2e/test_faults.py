"""A teacher with the faults of a real provider, and a driver that is killed again and again: one run through both."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest
import yaml
from command_line import command_line, in_background

from dpe_ray.models.journal import read_journal
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import DataPlan, Diagnosis

KILLS = 5
LINES = 400
"""Of a whole run's journal, about: a kill comes at any of them, and up to two seconds more."""
IN_FLIGHT = 8
"""At the teacher: `concurrency` of the one worker's client."""
SETTLED_S = 15
"""By then a call that was in flight at a kill is over: the workers learn late that their driver is gone."""


@contextmanager
def faulty_teacher(world, folder):
    """(base URL, log) of a teacher."""
    log = folder / "log.jsonl"
    command = [sys.executable, str(Path(__file__).with_name("faulty_teacher.py")), world["truth"], str(log)]
    with in_background(command, stdout=subprocess.PIPE) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", log


@pytest.fixture(scope="module")
def teacher(world, tmp_path_factory):
    """It is there for the whole run."""
    with faulty_teacher(world, tmp_path_factory.mktemp("teacher")) as there:
        yield there


def round_at(url, small_yaml, folder):
    """One small round at a teacher, which must come out the same whatever happens."""
    tree = yaml.safe_load(small_yaml.read_text()) | {"rounds": 1, "final": []}
    tree["runtime"] = tree.get("runtime", {}) | {"deterministic": True}
    tree["models"]["teacher"] = {
        "base_url": url,
        "model": "oracle",
        "concurrency": IN_FLIGHT,
        "timeout_s": 5,
        "retries": 4,
    }
    tree["probe"]["size"], tree["plan"]["total"], tree["train"]["steps"] = 20, 32, 1
    # the band is the student's, and any cell may be filled
    tree["supply"] |= {"concurrency": IN_FLIGHT, "pass_rate": [0.0, 1.0], "slots_per_sample": 8.0}
    file = folder / "faulty.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.fixture(scope="module")
def survived(small_yaml, teacher, tmp_path_factory):
    """(run directory, times of the kills) of a run whose driver was killed five times."""
    faulty_yaml = round_at(teacher[0], small_yaml, tmp_path_factory.mktemp("job"))
    run, kills, chance = tmp_path_factory.mktemp("runs") / "faulty", [], Random(0)
    killed_at = sorted(chance.sample(range(1, LINES), KILLS))
    command = [sys.executable, "-m", "dpe_ray", "run", str(faulty_yaml), "--run-dir", str(run)]
    with ExitStack() as stack:
        for lines in (*killed_at, None):
            process = stack.enter_context(
                in_background(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            )
            if lines is None:
                out, _ = process.communicate(timeout=400)
                assert process.returncode == 0, out
                continue
            wait_for_lines(run / "journal", lines, process)
            time.sleep(chance.uniform(0, 2))
            process.kill()
            kills.append(time.time())
            process.wait()
    return run, kills


@pytest.fixture(scope="module")
def undisturbed(world, small_yaml, tmp_path_factory):
    """Run directory of the same round at a teacher of its own that was never interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with faulty_teacher(world, folder) as (url, _):
        job = round_at(url, small_yaml, folder)
        done = command_line("run", job, "--run-dir", folder / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def wait_for_lines(folder, lines, process, seconds=400):
    deadline = time.monotonic() + seconds
    while sum(1 for file in folder.glob("*/*.jsonl") for _ in file.open()) < lines:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.05)


def events(teacher, kind):
    return [line for line in map(json.loads, teacher[1].read_text().splitlines()) if line["event"] == kind]


def test_the_same_command_finishes_after_every_kill(survived):
    run, kills = survived
    assert len(kills) == KILLS
    assert json.loads((run / "summary.json").read_text())["status"] == "complete"


def test_the_teacher_played_its_faults(survived, teacher):
    assert any(events(teacher, fault) for fault in ("refused", "failed", "hung"))


def test_no_call_is_paid_twice_but_those_in_flight_at_a_kill(survived, teacher):
    _, kills = survived
    answers = {}
    for line in events(teacher, "answered"):
        answers.setdefault(line["call"], []).append(line["t"])
    repeated = [(call, again) for call, (_, *later) in answers.items() for again in later]
    assert len(repeated) <= IN_FLIGHT * len(kills)
    for call, _ in repeated:
        first = answers[call][0]
        assert any(-SETTLED_S < first - kill < SETTLED_S for kill in kills), "it was on the disk long before"


def outcome(run):
    """All that a run decided; times and costs aside."""
    folder, summary = RunFolder(run).round(1), json.loads((run / "summary.json").read_text())
    (told,) = summary["rounds"]
    return {
        "samples": [(s.id, s.provenance.cell, s.difficulty) for s in folder.load_samples()],
        "rejected": [(r.slot, r.gate, r.reason, r.cell) for r in folder.load_rejected()],
        "diagnosis": folder.load_json("diagnosis", Diagnosis),
        "plan": folder.load_json("plan", DataPlan),
        "round": {key: told[key] for key in ("decision", "gate", "proposed", "accepted", "rejected", "quota", "train")},
    }


def test_the_outcome_is_that_of_an_undisturbed_run(survived, undisturbed):
    after_kills, at_once = outcome(survived[0]), outcome(undisturbed)
    assert after_kills["samples"]
    for part in at_once:
        assert after_kills[part] == at_once[part], part


@pytest.fixture(scope="module")
def supplied(survived):
    """The folder of the round."""
    return RunFolder(survived[0]).round(1)


def test_all_quotas_are_filled(supplied):
    quotas = supplied.load_json("plan", DataPlan).quotas
    told = supplied.load_json("supply", Supplied)
    assert Counter(sample.provenance.cell for sample in supplied.load_samples()) == {
        c: n for c, n in quotas.items() if n
    }
    assert told.closed_by == "quota"
    assert not told.shortfall


def test_no_slot_and_no_sample_is_lost_or_doubled(supplied):
    samples, rejected = supplied.load_samples(), supplied.load_rejected()
    assert supplied.load_json("supply", Supplied).proposed == len(samples) + len(rejected)
    assert len({rejection.slot for rejection in rejected}) == len(rejected)
    assert len({sample.id for sample in samples}) == len(samples)
    assert all(rejection.gate and rejection.reason for rejection in rejected)


def test_the_journal_holds_every_call_once_with_its_attempts(survived, teacher):
    run, kills = survived
    lines = [line for line in read_journal(run / "journal") if line["endpoint"] == "teacher" and "error" not in line]
    assert len({line["key"] for line in lines}) == len(lines)
    paid = len(events(teacher, "answered"))
    assert len(lines) <= paid <= len(lines) + IN_FLIGHT * len(kills)
