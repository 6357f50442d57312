"""States are written while training goes on."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from train_support import LocalPool, make_prompts

from dpe_ray.train import checkpoints
from dpe_ray.train.loop import train
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

SETTINGS = GrpoSettings(
    tuning="full", lr=1e-3, kl=0.0, prompts_per_step=2, group_size=2, steps=3, max_tokens=3, drop_equal_groups=False
)


class CountingPool(LocalPool):
    """Says which step has begun."""

    def __init__(self, policy: PolicyRef) -> None:
        super().__init__(policy)
        self.begun = [Event() for _ in range(SETTINGS.steps)]

    def rollout(self, prompts: Sequence[Prompt], **settings: object) -> list[RolloutGroup]:
        next(event for event in self.begun if not event.is_set()).set()
        return super().rollout(prompts, **settings)  # type: ignore[arg-type]


def test_the_next_step_begins_while_a_slow_disk_still_writes(
    student: PolicyRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, put, written = CountingPool(student), checkpoints._put, []

    def slow(folder: Path, state: dict[str, Any]) -> None:
        """The state of a step is written only when the rollouts of the next one are asked for."""
        done = len(state["metrics"])
        if done < SETTINGS.steps and not pool.begun[done].wait(60):
            raise TimeoutError("the step waited for the disk")
        put(folder, state)
        written.append(done)

    monkeypatch.setattr(checkpoints, "_put", slow)
    train(student, make_prompts(tmp_path, 4), pool, SETTINGS, out=str(tmp_path / "out"), seed=0)
    assert written == [1, 2, 3]


def test_a_full_disk_ends_the_training(student: PolicyRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, state: dict[str, Any]) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "_put", full)
    with pytest.raises(OSError, match="no space"):
        train(student, make_prompts(tmp_path, 4), LocalPool(student), SETTINGS, out=str(tmp_path / "out"), seed=0)


def test_a_state_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "steps" / "step-00001"

    def torn(state: dict[str, Any], file: Any) -> None:
        file.write(b"half")
        raise OSError("killed")

    monkeypatch.setattr(checkpoints.torch, "save", torn)
    with pytest.raises(OSError, match="killed"):
        checkpoints._put(folder, {})
    assert not (folder / checkpoints.STATE).exists()


def test_only_the_last_two_states_are_kept(tmp_path: Path) -> None:
    folders = [tmp_path / f"step-{step:05d}" for step in range(1, 6)]
    for folder in folders[:4]:
        checkpoints._put(folder, {"key": "a"})
    assert [folder.exists() for folder in folders] == [False, False, True, True, False]
