"""States are written while training goes on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_support import LocalPool, make_groups, make_prompts, save_tiny_student

from dpe_ray.models.policy import load_policy
from dpe_ray.train import checkpoints
from dpe_ray.train.checkpoints import StepFolders
from dpe_ray.train.loop import train, trainable
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.train.world import World
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


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_policy_has_the_names_of_its_start_and_loads_with_the_weights_of_the_trainer(
    tied: bool, dtype: str, tmp_path: Path
) -> None:
    start = save_tiny_student(tmp_path / "start", tied=tied)
    settings = replace(SETTINGS, dtype=dtype)
    trainer = GrpoTrainer(trainable(start, settings, 0), settings)
    trainer.step(make_groups(start, tmp_path))
    with StepFolders(str(tmp_path / "out"), "key", start, trainer, tuning="full", world=World()) as folders:
        written = folders.write(1)
        folders.finish()
    trained = trainer.policy.model.state_dict()
    for saved in (written, folders.final):
        names = [load_file(Path(ref.base) / "model.safetensors").keys() for ref in (saved, start)]
        assert names[0] == names[1]
        model = load_policy(saved).model
        assert all(torch.equal(weight, trained[name].float()) for name, weight in model.state_dict().items())
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


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
