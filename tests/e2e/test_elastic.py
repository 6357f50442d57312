"""A range of training workers on two nodes, one of which is lost: training goes on with what is left."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import ray.cloudpickle
import train_support
from ray.cluster_utils import Cluster
from train_support import FolderPool, make_prompts, save_tiny_student

from dpe_ray.models.policy import load_policy
from dpe_ray.runtime import session
from dpe_ray.runtime.train_job import RayPolicyUpdater
from dpe_ray.train.checkpoints import STATE
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import Prompt, RolloutGroup

SETTINGS = GrpoSettings(
    backend="fsdp2", tuning="full", prompts_per_step=4, group_size=4, steps=5, max_tokens=4, drop_equal_groups=False
)

for module in (train_support, sys.modules[__name__]):  # workers do not have the tests on their path
    ray.cloudpickle.register_pickle_by_value(module)


class SlowPool(FolderPool):
    """Notes its process, and takes half a second for a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        with (Path(self.folder) / "pids").open("a") as file:
            file.write(f"{os.getpid()} ")

    def rollout(self, prompts: Sequence[Prompt], **settings: Any) -> list[RolloutGroup]:
        time.sleep(0.5)
        return super().rollout(prompts, **settings)


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head and a node, with room for one worker each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 150 * 2**20})
    cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    session.start(address=cluster.address)
    yield cluster
    session.stop()
    cluster.shutdown()


def test_training_goes_on_with_the_workers_that_are_left(nodes: Cluster, tmp_path: Path) -> None:
    student = save_tiny_student(tmp_path / "student")
    samples = [prompt.sample for prompt in make_prompts(tmp_path / "pictures", 6)]
    state = tmp_path / "out" / "steps" / "step-00002" / STATE

    def lose_a_node() -> None:
        while not state.exists():
            time.sleep(0.05)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    Thread(target=lose_a_node, daemon=True).start()
    pool = partial(SlowPool, student.base, str(tmp_path / "pool"))
    updater = RayPolicyUpdater(SETTINGS, pool, str(tmp_path / "ray"), workers=(1, 2), num_cpus=1)
    result = asyncio.run(updater.finetune(student, samples, out=str(tmp_path / "out"), seed=0))
    assert len((tmp_path / "pool" / "pids").read_text().split()) == 2 + 1
    assert (result.steps, len(result.metrics), result.policy.version) == (5, 5, 1)
    load_policy(result.policy)
