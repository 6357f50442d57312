"""The folders of a training run: one per step while it lasts, a plain model directory when it is over.

    OUT/steps/step-00003/...        the policy as engines load it, where rollouts are taken from it
    OUT/steps/step-00003/state.pt   written last: weights, optimiser and metrics to go on from
    OUT/...                        at the end; the steps are gone then

The place must be seen by every rank and every engine.
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from dpe_ray.models.policy import LoadedPolicy, save_policy
from dpe_ray.train.metrics import Metrics
from dpe_ray.types import PolicyRef

STATE = "state.pt"
VERSIONS_PER_ROUND = 100_000
"""Policies of steps are published under versions far above those of rounds, so that none is taken for another."""


class Trainer(Protocol):
    """What is kept of a trainer of any method."""

    policy: LoadedPolicy

    def state(self) -> dict[str, Any]:
        """Weights and optimiser, to go on from."""
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
    """Writes and finds the folders of one run; only rank 0 writes. `key` tells its folders from another run's."""

    def __init__(self, out: str, key: str, start: PolicyRef, trainer: Trainer, tuning: str) -> None:
        self._out = Path(out)
        self._key = key
        self._start = start
        self._trainer = trainer
        self._tuning = tuning

    def resume(self) -> Progress:
        """Load the last finished step into the trainer; the start when there is none."""
        for folder in sorted(self._out.glob("steps/step-*"), reverse=True):
            if (file := folder / STATE).exists():
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
                if state["key"] == self._key:
                    self._trainer.load_state(state["trainer"])
                    return Progress(self.policy_of(len(state["metrics"])), tuple(state["metrics"]))
        return Progress(self._start)

    def write(self, step: int) -> PolicyRef:
        """Write the policy after step `step` (counted from 1) where engines can load it."""
        folder = self._folder(step)
        shutil.rmtree(folder, ignore_errors=True)
        self._save(folder)
        return self.policy_of(step)

    def policy_of(self, step: int) -> PolicyRef:
        """Name the policy that `write` leaves."""
        return self._at(self._folder(step), (self._start.version + 1) * VERSIONS_PER_ROUND + step)

    def commit(self, progress: Progress) -> None:
        """Make a step the one to go on from; the one committed before it stays, older ones go."""
        folder = self._folder(len(progress.metrics))
        folder.mkdir(parents=True, exist_ok=True)
        state = {"key": self._key, "trainer": self._trainer.state(), "metrics": list(progress.metrics)}
        torch.save(state, folder / "state.part")
        os.replace(folder / "state.part", folder / STATE)
        earlier = sorted(other for other in folder.parent.glob("step-*") if other.name < folder.name)
        for old in earlier[:-1]:
            shutil.rmtree(old, ignore_errors=True)

    def finish(self) -> None:
        """Write the final policy at `out`."""
        self._save(self._out)

    def remove_steps(self) -> None:
        """Remove the folders of the steps; nothing may serve from them any more."""
        shutil.rmtree(self._out / "steps", ignore_errors=True)

    @property
    def final(self) -> PolicyRef:
        """The policy at `out`: one version above the start."""
        return self._at(self._out, self._start.version + 1)

    def _folder(self, step: int) -> Path:
        return self._out / "steps" / f"step-{step:05d}"

    def _save(self, folder: Path) -> None:
        save_policy(self._trainer.policy.model, self._trainer.policy.processor, folder)

    def _at(self, folder: Path, version: int) -> PolicyRef:
        if self._tuning == "lora":
            return replace(self._start, adapter=str(folder), version=version)
        return PolicyRef(str(folder), version=version)
