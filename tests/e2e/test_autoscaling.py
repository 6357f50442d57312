"""Annotation nodes come and go under a run: from none to several and back, one of them killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from command_line import in_background
from fake_nodes import fake_cluster, node_id, raylets

from dpe_ray.models.journal import read_journal
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.supplier import Supplied

MOST_NODES = 3
IN_FLIGHT = 4
"""Slots of one worker."""
SLOTS = 96
LATENCY_S = 1.0
"""Of the teacher: so long that a stage outlives the start of a node."""
GONE_S = 60.0
"""By then the last node is ended: three seconds idle, and what the autoscaler takes."""


@pytest.fixture(scope="module")
def many_slots(small_yaml, tmp_path_factory):
    """One small round whose annotation workers fit no head, and fill a node each."""
    tree = yaml.safe_load(small_yaml.read_text()) | {"rounds": 1, "final": []}
    tree["models"]["teacher"]["options"] |= {"latency_s": LATENCY_S}
    tree["probe"]["size"], tree["plan"]["total"], tree["train"]["steps"] = 20, 48, 1
    tree["supply"] |= {
        "workers": {"min": 1, "max": MOST_NODES, "labels": {"annotation": 1}},
        "concurrency": IN_FLIGHT,
        "slots_per_sample": SLOTS / 48,
    }
    file = tmp_path_factory.mktemp("job") / "many.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.fixture(scope="module")
def node_types():
    """Head and annotation group of the cluster file, small enough for one machine; the student is on the head."""
    types = yaml.safe_load(Path("cluster/ray-up.yaml").read_text())["available_node_types"]
    annotation = {"min_workers": types["annotation"]["min_workers"], "max_workers": MOST_NODES}
    resources = types["annotation"]["resources"] | {"CPU": 1, "object_store_memory": 100_000_000}
    return {"head": {"resources": {"CPU": 4}}, "annotation": {**annotation, "resources": resources}}


@pytest.fixture(scope="module")
def scaled(many_slots, node_types, tmp_path_factory):
    """(run directory, time line, kill) of a run one of whose nodes was killed."""
    folder, run = tmp_path_factory.mktemp("r"), tmp_path_factory.mktemp("runs") / "scaled"
    command = [sys.executable, "-m", "dpe_ray", "run", str(many_slots), "--run-dir", str(run)]
    line = Timeline(folder / "nodes.jsonl")
    watcher = [sys.executable, str(Path(__file__).parents[1] / "fake_nodes.py"), str(line.file)]
    with ExitStack() as stack:
        environment = stack.enter_context(fake_cluster(folder, node_types, idle_timeout_minutes=0.05))
        stack.enter_context(in_background(watcher, stdout=subprocess.DEVNULL, env=environment))
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment}
        driver = stack.enter_context(in_background(command, **options))
        busy = wait_for(lambda: busy_nodes(run, folder) if line.now() > 1 else [], driver)
        killed = Kill(time.time(), node_id(busy[0]))
        os.kill(busy[0], signal.SIGKILL)
        out, _ = driver.communicate(timeout=800)
        assert driver.returncode == 0, out
        wait_for(lambda: line.now() == 0, None, GONE_S)
        return run, line.read(), killed


class Kill(NamedTuple):
    """What was done to a node."""

    t: float
    node: str


class Timeline:
    """Who was alive when, as the watcher sees it."""

    def __init__(self, file):
        self.file = file

    def read(self):
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def now(self):
        lines = self.read()
        return len(lines[-1]["alive"]) if lines else 0


def busy_nodes(run, folder):
    """Process ids of the nodes whose workers have calls in the journal of the supply stage."""
    writers = [file.stem.rpartition("-")[2][:-6] for file in (run / "journal" / "01-supply").glob("*.jsonl")]
    stats = [Path("/proc", writer, "stat") for writer in writers]
    parents = {int(stat.read_text().rpartition(")")[2].split()[1]) for stat in stats if stat.exists()}
    return sorted(parents & set(raylets(folder)))


def wait_for(condition, process, seconds=800):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.1)
    return found


def told(line, killed):
    """The time line as a table, seconds since the first look."""
    begin = line[0]["t"]
    rows = [(entry["t"] - begin, f"{len(entry['alive'])} nodes alive") for entry in line]
    return "\n".join(f"{t:7.1f} s  {what}" for t, what in sorted([*rows, (killed.t - begin, "one of them is killed")]))


def test_nodes_come_with_the_work_and_go_with_it(scaled, capsys):
    _, line, killed = scaled
    with capsys.disabled():
        sys.stdout.write(f"\n{told(line, killed)}\n")
    alive = [len(entry["alive"]) for entry in line]
    assert alive[0] == alive[-1] == 0
    assert 2 <= max(alive) <= MOST_NODES


def test_a_node_that_is_killed_is_missed_and_replaced(scaled):
    _, line, killed = scaled
    before = {node for entry in line if entry["t"] < killed.t for node in entry["alive"]}
    missed = next(entry["t"] for entry in line if entry["t"] > killed.t and killed.node not in entry["alive"])
    assert killed.node in before
    assert any(set(entry["alive"]) - before for entry in line if entry["t"] >= missed)


@pytest.fixture(scope="module")
def supplied(scaled):
    """The folder of the round."""
    return RunFolder(scaled[0]).round(1)


def test_no_slot_and_no_sample_is_lost_or_doubled(supplied):
    samples, rejected = supplied.load_samples(), supplied.load_rejected()
    told = supplied.load_json("supply", Supplied)
    assert told.closed_by == "slots"
    assert told.proposed == len(samples) + len(rejected) == told.images == SLOTS
    assert len({sample.id for sample in samples}) == len(samples) > 0
    assert len({rejection.slot for rejection in rejected}) == len(rejected)


def test_the_journal_holds_every_slot_once(scaled, supplied):
    lines = [line for line in read_journal(scaled[0] / "journal" / "01-supply") if "error" not in line]
    assert len({line["key"] for line in lines}) == len(lines)
    planned = Counter(line["item"] for line in lines if line["role"] == "planner")
    assert set(planned.values()) == {1}
    unseen = [rejection for rejection in supplied.load_rejected() if rejection.gate in ("outage", "duplicate", "image")]
    assert SLOTS - len(unseen) <= len(planned) <= SLOTS
