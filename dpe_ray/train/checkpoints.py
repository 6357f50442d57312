"""The folders of a training run: one per step while it lasts, a plain model directory when it is over.

    OUT/steps/step-00003/...        the policy as engines load it, where rollouts are taken from it
    OUT/steps/step-00003/state.pt   written last: weights, optimiser and metrics to go on from
    OUT/...                         at the end; `ending` removes the steps then

The place must be seen by every rank and every engine. Nothing of a state belongs to a rank or to a way of sharding, so
any number of ranks goes on from it: weights and moments are whole, and the order of prompts, rollouts and all that is
drawn follow from the seed and the number of the step.
"""

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch

from dpe_ray.models.policy import LoadedPolicy, save_policy, saved_tensors
from dpe_ray.train.backends.port import Backend
from dpe_ray.train.ending import STEPS
from dpe_ray.train.metrics import Metrics
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef

STATE = "state.pt"
VERSIONS_PER_ROUND = 100_000
"""Policies of steps are published under versions far above those of rounds, so that none is taken for another."""


class Trainer(Protocol):
    """What is kept of a trainer of any method."""

    policy: LoadedPolicy
    backend: Backend

    def state(self) -> dict[str, Any]:
        """Weights and optimiser, to go on from, on rank 0; all ranks call it."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    policy: PolicyRef
    """What the next rollouts come from."""
    metrics: tuple[Metrics, ...] = ()
    """Of the finished steps."""


class StepFolders:
    """Writes and finds the folders of one run. `key` tells its folders from another run's.

    All ranks call the same methods in the same order; rank 0 writes. As a context: the last commit is done at its end.
    """

    def __init__(self, out: str, key: str, start: PolicyRef, trainer: Trainer, *, tuning: str, world: World) -> None:
        self._out = Path(out)
        self._key = key
        self._start = start
        self._trainer = trainer
        self._tuning = tuning
        self._world = world
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.shutdown()

    def resume(self) -> Progress:
        """Load the last finished step into the trainer; the start when there is none."""
        for file in self._world.collect([str(file) for file in self._states()])[0]:  # what rank 0 sees counts
            # mapped: the ranks of a node share one copy of what they take their parts from
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            if state["key"] == self._key:
                self._trainer.load_state(state["trainer"])
                return Progress(self.policy_of(len(state["metrics"])), tuple(state["metrics"]))
        return Progress(self._start)

    def write(self, step: int) -> PolicyRef:
        """Write the policy after step `step` (counted from 1) where engines can load it."""
        folder = self._folder(step)
        if self._world.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        self._save(folder)
        return self.policy_of(step)

    def policy_of(self, step: int) -> PolicyRef:
        """Name the policy that `write` leaves."""
        return self._at(self._folder(step), (self._start.version + 1) * VERSIONS_PER_ROUND + step)

    def before(self, progress: Progress) -> PolicyRef:
        """Name the policy before the last finished step: its folder stays until the step after is committed."""
        done = len(progress.metrics)
        return self.policy_of(done - 1) if done > 1 else self._start

    def commit(self, progress: Progress) -> None:
        """Make a step the one to go on from; the one committed before it stays, older ones go.

        Returns when the state is copied, and writes it while the next step runs. Waits for the commit before.
        """
        self._wait()
        state = {"key": self._key, "trainer": self._trainer.state(), "metrics": list(progress.metrics)}
        if self._world.rank == 0:
            self._written = self._writer.submit(_put, self._folder(len(progress.metrics)), state)

    def finish(self) -> None:
        """Write the final policy at `out`, when the last commit is done."""
        self._wait()
        self._save(self._out)

    @property
    def final(self) -> PolicyRef:
        """The policy at `out`: one version above the start."""
        return self._at(self._out, self._start.version + 1)

    def _folder(self, step: int) -> Path:
        return self._out / STEPS / f"step-{step:05d}"

    def _states(self) -> list[Path]:
        """Latest first."""
        return sorted(self._out.glob(f"{STEPS}/step-*/{STATE}"), reverse=True)

    def _wait(self) -> None:
        """Return when the last state is on disk; raises what went wrong with it."""
        if self._written:
            self._written.result()

    def _save(self, folder: Path) -> None:
        policy = self._trainer.policy
        tensors = self._trainer.backend.whole(saved_tensors(policy.model))
        if self._world.rank == 0:
            save_policy(policy.model, policy.processor, folder, tensors, policy.stored)

    def _at(self, folder: Path, version: int) -> PolicyRef:
        if self._tuning == "lora":
            return replace(self._start, adapter=str(folder), version=version)
        return PolicyRef(str(folder), version=version)


def _put(folder: Path, state: dict[str, Any]) -> None:
    """Write a state so that it is there as a whole or not at all, and remove what is older than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "state.part").open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / "state.part", folder / STATE)
    earlier = sorted(other for other in folder.parent.glob("step-*") if other.name < folder.name)
    for old in earlier[:-1]:
        shutil.rmtree(old, ignore_errors=True)
