"""`kill -9` of one of two training workers, with rollouts from the served student: the result is the same."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import ray.cloudpickle
import train_support
from train_support import make_prompts, save_tiny_student

from dpe_ray.config import ModelConfig
from dpe_ray.models.policy import load_policy
from dpe_ray.runtime import serve_app
from dpe_ray.runtime.rollout_pool import ServeRolloutPool
from dpe_ray.runtime.train_job import RayPolicyUpdater
from dpe_ray.train.checkpoints import STATE, VERSIONS_PER_ROUND
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup, Sample, TrainResult

SETTINGS = GrpoSettings(
    tuning="lora", lr=1e-3, kl=0.01, prompts_per_step=4, group_size=4, steps=5, max_tokens=6, drop_equal_groups=False,
    lora_rank=4, lora_alpha=8,
)  # fmt: skip
LETTERS = """
def letters(sample, completion):
    return sum(c.isalpha() for c in completion.text) / max(1, len(completion.text))
"""
"""A reward that tells the rollouts of an untrained student apart."""
KILLED_AFTER = 2
"""Steps."""

for module in (train_support, sys.modules[__name__]):  # workers do not have the tests on their path
    ray.cloudpickle.register_pickle_by_value(module)


@dataclass(frozen=True)
class WatchedPool(ServeRolloutPool):
    """Notes which process publishes and samples which version, one line each."""

    log: str = ""

    def publish(self, policy: PolicyRef) -> None:
        super().publish(policy)
        self._note("publish", policy.version)

    def rollout(self, prompts: Sequence[Prompt], **settings: Any) -> list[RolloutGroup]:
        groups = super().rollout(prompts, **settings)
        self._note("rollout", *{group.policy_version for group in groups})
        return groups

    def _note(self, what: str, *versions: int) -> None:
        with Path(self.log).open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "what": what, "versions": versions}) + "\n")


@pytest.fixture(scope="module")
def served(own_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[PolicyRef, list[Sample]]:
    """A student behind Serve, and samples to train it on."""
    folder = tmp_path_factory.mktemp("served")
    student = save_tiny_student(folder / "student")
    (folder / "student" / "reward.py").write_text(LETTERS)
    serve_app.serve_models({"student": ModelConfig(source=student.base, engine="transformers", num_cpus=0.25)})
    return student, [prompt.sample for prompt in make_prompts(folder / "pictures", 6)]


def trained(served: tuple[PolicyRef, list[Sample]], folder: Path) -> TrainResult:
    """Train with two workers from the student as it was."""
    student, samples = served
    pool = partial(WatchedPool, "student", str(folder / "log"))
    settings = replace(SETTINGS, reward={f"{student.base}/reward.py:letters": 1.0})
    updater = RayPolicyUpdater(settings, pool, str(folder / "ray"), workers=2, num_cpus=0.5)
    return asyncio.run(updater.finetune(student, samples, out=str(folder / "out"), seed=3))


def noted(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def kill_one(folder: Path, writer: bool) -> None:
    """End the worker that publishes, or the other one, when the state of a step is on disk."""
    state = folder / "out" / "steps" / f"step-{KILLED_AFTER:05d}" / STATE
    while not state.exists():
        time.sleep(0.01)
    publisher = noted(folder)[0]["pid"]
    other = next(line["pid"] for line in noted(folder) if line["pid"] != publisher)
    os.kill(publisher if writer else other, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(served: tuple[PolicyRef, list[Sample]], tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return trained(served, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("writer", [True, False], ids=["writer", "other"])
def test_a_killed_worker_changes_nothing_in_the_result(
    served: tuple[PolicyRef, list[Sample]], undisturbed: TrainResult, tmp_path: Path, writer: bool
) -> None:
    killer = Thread(target=kill_one, args=(tmp_path, writer), daemon=True)
    killer.start()
    result = trained(served, tmp_path)
    log = noted(tmp_path)
    first = {line["pid"] for line in log[:3]}  # a publication, then a rollout of each of the two
    again = [line for line in log if line["pid"] not in first]
    resumed = again[0]["versions"][0]
    assert again[0]["what"] == "publish"
    assert KILLED_AFTER <= resumed - VERSIONS_PER_ROUND < SETTINGS.steps
    assert {tuple(line["versions"]) for line in again[1:3]} == {(resumed,)}  # what the engine says it sampled from
    assert len({line["pid"] for line in again}) == 2
    ours, theirs = (load_policy(done.policy).model.state_dict() for done in (result, undisturbed))
    assert max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items()) <= 1e-6
    assert [m["reward"] for m in result.metrics] == [m["reward"] for m in undisturbed.metrics]
    assert any(bool(weight.any()) for name, weight in theirs.items() if "lora_B" in name)  # something was learned
