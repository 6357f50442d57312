"""The training loop under Ray Train."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import ray.cloudpickle
import train_support
from chain_support import assert_chain, run_chain
from train_support import FolderPool, LocalPool, RefusingPool, make_prompt, save_tiny_student

from dpe_ray.config import TrainConfig
from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import load_policy
from dpe_ray.runtime.local_pool import open_local_pool
from dpe_ray.runtime.train_job import RayPolicyUpdater, method_settings
from dpe_ray.train.settings import ChainSettings, GrpoSettings
from dpe_ray.types import PolicyRef, Sample

SETTINGS = GrpoSettings(
    tuning="lora", lr=1e-3, prompts_per_step=4, group_size=4, steps=3, max_tokens=4, drop_equal_groups=False
)

ray.cloudpickle.register_pickle_by_value(train_support)  # workers do not have the tests on their path


def samples_in(folder: Path) -> list[Sample]:
    return [make_prompt(folder, index).sample for index in range(6)]


async def test_two_workers_train_survive_a_death_and_leave_one_adapter(ray_session: None, tmp_path: Path) -> None:
    student = save_tiny_student(tmp_path / "student")
    pool = partial(FolderPool, student.base, str(tmp_path / "pool"), dies_once_at=3)
    updater = RayPolicyUpdater(SETTINGS, pool, str(tmp_path / "ray"), workers=2, num_cpus=0.5)
    result = await updater.finetune(student, samples_in(tmp_path), out=str(tmp_path / "out"), seed=0)
    assert (tmp_path / "pool" / "died").exists()
    assert (result.steps, len(result.metrics), result.policy.version) == (3, 3, 1)
    assert result.metrics[0]["kl"] == pytest.approx(0, abs=1e-9)
    load_policy(result.policy)


async def test_two_workers_roll_out_from_engines_of_their_own(ray_session: None, tmp_path: Path) -> None:
    student = save_tiny_student(tmp_path / "student")
    pool = partial(open_local_pool, ("transformers", student.base, {}), str(tmp_path / "pool" / "published.json"))
    updater = RayPolicyUpdater(replace(SETTINGS, steps=2), pool, str(tmp_path / "ray"), workers=2, num_cpus=0.5)
    result = await updater.finetune(student, samples_in(tmp_path), out=str(tmp_path / "out"), seed=0)
    assert max(step["logprob_gap"] for step in result.metrics) < 1e-4
    assert (result.steps, result.policy.version) == (2, 1)


async def test_a_workers_own_error_is_raised_as_itself_and_at_once(ray_session: None, tmp_path: Path) -> None:
    student = save_tiny_student(tmp_path / "student")
    updater = RayPolicyUpdater(SETTINGS, partial(RefusingPool, str(tmp_path)), str(tmp_path / "ray"), num_cpus=0.5)
    with pytest.raises(TrainingError, match="refused the policy"):
        await updater.finetune(student, samples_in(tmp_path), out=str(tmp_path / "out"), seed=0)
    assert (tmp_path / "attempts").read_text() == "x"


async def test_no_samples_are_refused_before_anything_starts(tmp_path: Path) -> None:
    updater = RayPolicyUpdater(SETTINGS, partial(LocalPool, PolicyRef("none")), str(tmp_path))
    with pytest.raises(TrainingError, match="no samples"):
        await updater.finetune(PolicyRef("none"), [], out=str(tmp_path / "out"), seed=0)


@pytest.mark.parametrize(("backend", "tuning"), [("ddp", "lora"), ("fsdp2", "full")])
async def test_two_workers_run_a_chain(ray_session: None, tmp_path: Path, backend: str, tuning: str) -> None:
    student = save_tiny_student(tmp_path / "student")
    result = await run_chain(student, samples_in(tmp_path), tmp_path, backend, tuning)
    assert_chain(result, student, tmp_path, tuning)


def test_settings_of_a_method_are_those_of_its_part_of_the_configuration() -> None:
    config = TrainConfig.model_validate({"method": "chain", "lr": 1e-5, "lora_rank": 4, "sft": {"lr": 3e-4}})
    chain = method_settings(config)
    assert isinstance(chain, ChainSettings)
    assert (chain.sft.lr, chain.grpo.lr) == (3e-4, 1e-5)
    assert (chain.sft.weight_decay, chain.grpo.weight_decay) == (0.0, 1e-2)
    assert chain.sft.lora_rank == chain.grpo.lora_rank == 4
    assert method_settings(config.model_copy(update={"method": "sft"})) == chain.sft
    assert method_settings(config.model_copy(update={"method": "grpo"})) == chain.grpo
