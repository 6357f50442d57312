"""SFT and then GRPO on two workers of Ray Train, with any backend."""

from functools import partial
from pathlib import Path

from train_support import FolderPool

from dpe_ray.models.policy import load_policy
from dpe_ray.runtime.train_job import RayPolicyUpdater
from dpe_ray.train.settings import ChainSettings, GrpoSettings, SftSettings
from dpe_ray.types import PolicyRef, Sample, TrainResult


async def run_chain(student: PolicyRef, samples: list[Sample], folder: Path, backend: str, tuning: str) -> TrainResult:
    """Two updates of SFT and one of GRPO."""
    shared = {"backend": backend, "tuning": tuning, "lora_rank": 4, "lora_alpha": 8, "max_tokens": 4}
    sft = SftSettings(batch_size=4, rationale_share=0.5, group_size=2, **shared)  # type: ignore[arg-type]
    grpo = GrpoSettings(
        lr=1e-3,
        prompts_per_step=4,
        group_size=4,
        steps=1,
        drop_equal_groups=False,
        **shared,  # type: ignore[arg-type]
    )
    pool = partial(FolderPool, student.base, str(folder / "pool"))
    updater = RayPolicyUpdater(ChainSettings(sft, grpo), pool, str(folder / "ray"), workers=2, num_cpus=0.5)
    return await updater.finetune(student, samples, out=str(folder / "out"), seed=0)


def assert_chain(result: TrainResult, student: PolicyRef, folder: Path, tuning: str) -> None:
    """Both methods ran, and left a plain directory that loads."""
    assert ["reward" in step for step in result.metrics] == [False, False, True]
    out = str(folder / "out")
    assert result.policy == (PolicyRef(student.base, out, 1) if tuning == "lora" else PolicyRef(out, version=1))
    left = {file.name for file in (folder / "out").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= left or {"config.json", "model.safetensors"} <= left
    load_policy(result.policy)
