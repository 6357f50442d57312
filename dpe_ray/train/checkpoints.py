"""The folders of a training run: one per step while it lasts, a plain model directory when it is over.

    OUT/steps/step-0003/...        the policy as engines load it
    OUT/steps/step-0003/state.pt   written last: weights, optimiser and metrics to go on from
    OUT/...                        at the end; the steps are gone then

The place must be seen by every rank and every engine.
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dpe_ray.models.policy import save_policy
from dpe_ray.train.metrics import Metrics
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef

STATE = "state.pt"
VERSIONS_PER_ROUND = 100_000
"""Policies of steps are published under versions far above those of rounds, so that none is taken for another."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    policy: PolicyRef
    """What the next rollouts come from."""
    metrics: tuple[Metrics, ...] = ()
    """Of the finished steps."""


class StepFolders:
    """Writes and finds the folders of one run; only rank 0 writes. `key` tells its folders from another run's."""

    def __init__(self, out: str, key: str, start: PolicyRef, trainer: GrpoTrainer) -> None:
        self._out = Path(out)
        self._key = key
        self._start = start
        self._trainer = trainer

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
        """Make a written step the one to go on from; the step before it stays, older ones go."""
        step = len(progress.metrics)
        folder = self._folder(step)
        state = {"key": self._key, "trainer": self._trainer.state(), "metrics": list(progress.metrics)}
        torch.save(state, folder / "state.part")
        os.replace(folder / "state.part", folder / STATE)
        shutil.rmtree(self._folder(step - 2), ignore_errors=True)

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
        return self._out / "steps" / f"step-{step:04d}"

    def _save(self, folder: Path) -> None:
        save_policy(self._trainer.policy.model, self._trainer.policy.processor, folder)

    def _at(self, folder: Path, version: int) -> PolicyRef:
        if self._trainer.settings.tuning == "lora":
            return replace(self._start, adapter=str(folder), version=version)
        return PolicyRef(str(folder), version=version)
