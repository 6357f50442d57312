import os
import subprocess
import sys

import pytest
import ray
from ray._private.worker import print_to_stdstream

from dpe_ray.config import load_config
from dpe_ray.errors import ClusterError
from dpe_ray.runtime import session
from dpe_ray.runtime.session import Hold


def test_a_second_start_joins_the_first(ray_session):
    assert session.start() is False
    assert ray.cluster_resources()["CPU"] == 4


def test_what_does_not_fit_is_said_with_its_parts(ray_session):
    session.require({"models.student": Hold(1, 0.25, 0.0), "train": Hold(1, 1.0, 0.0)})
    with pytest.raises(
        ClusterError, match=r"6 CPUs \(models.big \(2 x 2.5\) = 5, train \(1 x 1\) = 1\) .* has 4: 2 are"
    ):
        session.require({"models.big": Hold(2, 2.5, 0.0), "train": Hold(1, 1.0, 0.0)})
    with pytest.raises(ClusterError, match="GPU"):
        session.require({"models.big": Hold(1, 1.0, 1.0)})


def test_a_call_that_comes_after_the_end_neither_joins_nor_starts_another_ray():
    late = (
        "from dpe_ray.runtime import session as s; s.prepare_environment(throw_away_token=True); import ray; ray.put(1)"
    )
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "Ray has not been started yet" in done.stderr


def raylet_says(line):
    """As a driver's listener of error messages prints what the raylet publishes."""
    print_to_stdstream({"lines": [line], "pid": "raylet", "is_err": False}, ignore_prefix=False)


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: 8 PYTHON worker processes have been started on node: e66 with address: 192.0.2.2, which is 4x the "
        "maximum expected startup concurrency (2). This could be a result of using a large number of actors",
        "Task MapWorker(RowWorker).submit failed. There are infinite retries remaining, so the task will be retried. "
        "Error: The actor is dead because it was killed by `ray.kill`.",
        "Task f failed. There are 3 retries remaining, so the task will be retried. Error: \nThe worker died.",
    ],
    ids=["workers", "actor", "task"],
)
def test_the_raylets_talk_of_workers_and_repeated_calls_stays_off_the_terminal(ray_session, capsys, line):
    raylet_says(line)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "line",
    [
        "The node with node id: e66 and address: 192.0.2.2 has been marked dead",
        "Task f failed. There are 3 retries remaining, so the task will be retried. Error: Task was killed due to the "
        "node running low on memory.\nMemory on the node was 15.9GB / 16.0GB",
        "A worker died or was killed while executing a task by an unexpected system error.",
    ],
    ids=["node", "memory", "worker"],
)
def test_the_raylets_real_errors_reach_the_terminal(ray_session, capsys, line):
    raylet_says(line)
    assert line in capsys.readouterr().out


def test_the_micro_job_fits_two_cpus():
    asked = session.asked_by(load_config("jobs/micro.yaml"))
    assert set(asked) == {"models.student", "models.teacher", "supply.workers", "train"}
    assert session.total(asked)[0] <= 2


def test_processes_of_a_ray_without_dashboard_need_not_wait_for_one(ray_session):
    seen = ray.get(ray.remote(num_cpus=0)(lambda: os.environ.get(session.API_SERVER)).remote())
    assert seen == "http://127.0.0.1:9"
    assert os.environ.get(session.API_SERVER) != seen
