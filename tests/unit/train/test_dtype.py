"""What a policy is trained in, and what is left of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_support import LocalPool, make_groups, make_prompts

from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.train.loop import train, trainable
from dpe_ray.train.settings import GrpoSettings, SftSettings
from dpe_ray.train.sft_trainer import SftTrainer
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef

SFT = SftSettings(lora_rank=8, lora_alpha=16, lr=1e-2, warmup=0.0, micro_batch=4)
GRPO = GrpoSettings(lora_rank=4, lr=1e-3, kl=0.01, micro_batch=8)


@pytest.fixture(scope="module")
def half(student: PolicyRef, tmp_path_factory: pytest.TempPathFactory) -> PolicyRef:
    """The student as a checkpoint in bf16."""
    folder = tmp_path_factory.mktemp("half")
    policy = load_policy(student, dtype="bf16")
    save_policy(policy.model, policy.processor, folder)
    return PolicyRef(str(folder))


def dtypes(tensors: dict[str, torch.Tensor]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}


def test_auto_is_the_dtype_of_the_checkpoint(student: PolicyRef, half: PolicyRef) -> None:
    found = {ref: dtypes(dict(load_policy(ref).model.named_parameters())) for ref in (student, half)}
    assert found == {student: {torch.float32}, half: {torch.bfloat16}}


@pytest.mark.parametrize("packing", ["auto", "off"])
def test_loss_in_bf16_is_close_to_that_in_fp32(student: PolicyRef, packing: str, tmp_path: Path) -> None:
    prompts, losses = make_prompts(tmp_path, 6, "1. how many red"), []
    for dtype in ("fp32", "bf16"):
        settings = replace(SFT, dtype=dtype, shared_prefix=packing)
        trainer = SftTrainer(trainable(student, settings, 0), settings, steps=10)
        losses.append([trainer.step(prompts, prompts[0])["loss"] for _ in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]
    assert losses[1][-1] < 0.8 * losses[1][0]


def test_an_adapter_its_moments_and_all_logprobs_stay_in_32_bit_over_a_base_in_bf16(
    student: PolicyRef, tmp_path: Path
) -> None:
    settings = replace(GRPO, dtype="bf16")
    trainer = GrpoTrainer(trainable(student, settings, 0), settings)
    model, groups = trainer.policy.model, make_groups(student, tmp_path)
    seen: list[torch.dtype] = []
    score = trainer.backend.score

    def noted(batch):  # type: ignore[no-untyped-def]
        scored = score(batch)
        seen.extend([scored.logprobs.dtype, scored.entropy.dtype])
        return scored

    trainer.backend.score = noted  # type: ignore[method-assign]
    for _ in range(2):
        metrics = trainer.step(groups)
    frozen = {name: weight for name, weight in model.named_parameters() if not weight.requires_grad}
    assert (dtypes(dict(trainer.backend.weights)), dtypes(frozen)) == ({torch.float32}, {torch.bfloat16})
    assert set(seen) == {torch.float32}
    moments = trainer.state()["moments"]
    assert moments
    assert all(dtypes(kept) == {torch.float32} for kept in moments.values())
    assert metrics["kl"] > 0
    save_policy(model, trainer.policy.processor, tmp_path / "adapter")
    assert dtypes(load_file(tmp_path / "adapter" / "adapter_model.safetensors")) == {torch.float32}
    again = load_policy(replace(student, adapter=str(tmp_path / "adapter")), trainable="lora", dtype="bf16").model
    assert dtypes({n: w for n, w in again.named_parameters() if w.requires_grad}) == {torch.float32}


@pytest.mark.parametrize(("stored", "dtype"), [("float32", "bf16"), ("bfloat16", "fp32"), ("bfloat16", "auto")])
def test_full_tuning_leaves_the_dtype_of_the_checkpoint(
    student: PolicyRef, half: PolicyRef, stored: str, dtype: str, tmp_path: Path
) -> None:
    start = {"float32": student, "bfloat16": half}[stored]
    settings = replace(
        GRPO,
        tuning="full",
        dtype=dtype,
        prompts_per_step=2,
        group_size=4,
        steps=1,
        max_tokens=4,
        drop_equal_groups=False,
        weight_decay=10.0,  # a hundredth of every weight, whether or not the rewards of a group differ
    )
    pool = LocalPool(start)
    result = train(start, make_prompts(tmp_path, 2), pool, settings, out=str(tmp_path / "out"), seed=0)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert dtypes(weights) == {getattr(torch, stored)}
    before = load_file(Path(start.base) / "model.safetensors")
    assert weights.keys() == before.keys()
    assert any(not torch.equal(weight, before[name]) for name, weight in weights.items())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    parts = [config, config["text_config"], config["vision_config"]]
    assert {part["dtype"] for part in parts if "dtype" in part} == {stored}
    assert dtypes(dict(load_policy(result.policy).model.named_parameters())) == {getattr(torch, stored)}


def test_steps_too_small_for_bf16_add_up(half: PolicyRef, tmp_path: Path) -> None:
    settings = replace(GRPO, tuning="full", lr=1e-6, kl=0.0, weight_decay=0.0)
    trainer = GrpoTrainer(trainable(half, settings, 0), settings)
    groups, held = make_groups(half, tmp_path), trainer.backend.parts
    before = {name: weight.detach().clone() for name, weight in held.items()}
    for _ in range(3):
        trainer.step(groups)
    changed = {name: (weight != before[name]) for name, weight in trainer.backend.weights.items()}
    taught = sum(int(places.sum()) for places in changed.values())
    told = sum(int((held[name] != before[name]).sum()) for name in held)
    assert (dtypes(trainer.backend.weights), dtypes(held)) == ({torch.float32}, {torch.bfloat16})
    assert taught > 20 * told, "nearly all of it lies below what bf16 can say"
    for name, weight in trainer.backend.weights.items():
        assert torch.equal(weight.to(torch.bfloat16), held[name])
    resumed = GrpoTrainer(trainable(half, settings, 0), settings)
    resumed.load_state(trainer.state())
    assert all(torch.equal(weight, trainer.backend.weights[n]) for n, weight in resumed.backend.weights.items())
    assert all(torch.equal(weight, held[name]) for name, weight in resumed.backend.parts.items())
