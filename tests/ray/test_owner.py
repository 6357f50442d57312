"""Nothing that a run counts on is lost with a worker node."""

import os
import signal
import subprocess
import sys
import time

import pytest
import ray

from dpe_ray.ports import Limits
from dpe_ray.runtime import policy_board
from dpe_ray.runtime.data_map import DataMapper
from dpe_ray.runtime.quota_actor import start_book, start_calls
from dpe_ray.types import PolicyRef

APPS = ["app-0", "app-1"]


@pytest.fixture
def worker_node(ray_session):
    """A second node on this machine, and a way to take it back."""
    address = ray.get_runtime_context().gcs_address
    ray_of = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={address}"]
    sizes = ["--num-cpus=1", "--object-store-memory=80000000"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    node = subprocess.Popen([*ray_of, *sizes], start_new_session=True, **quiet)
    wait_for_nodes(2)

    def take_back():
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGTERM)  # its raylet too, which says good-bye
            node.wait(60)
        wait_for_nodes(1)

    yield take_back
    take_back()


def wait_for_nodes(count):
    deadline = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) != count:
        assert time.monotonic() < deadline, f"the cluster has not come to {count} nodes"
        time.sleep(0.1)


async def test_owners_outlive_a_worker_node(worker_node):
    # two of each: Ray chooses by chance where an actor without CPUs goes
    books = [start_book({"map/x": 1}, 4.0, 100, 4) for _ in APPS]
    budgets = [start_calls() for _ in APPS]
    feeds = [DataMapper()._feed for _ in APPS]
    for app, feed, book, calls in zip(APPS, feeds, books, budgets, strict=True):
        policy_board.write_down(app, PolicyRef(app))
        await feed.put.remote("map", 0, [b"row"])
        await book.begin(0)
        await calls.allow({"": Limits(calls=1)})
    worker_node()
    for app, feed, book, calls in zip(APPS, feeds, books, budgets, strict=True):
        assert await book.reserve("map/x", 0)
        assert not (await calls.take("planner")).refused
        assert await feed.get.remote("map", [0]) == [b"row"]
        assert policy_board.published(app) == PolicyRef(app)
        policy_board.remove(app)
