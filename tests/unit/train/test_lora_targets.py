"""Adapters on picture tower and projector: they learn, nothing else moves, and the engine decodes with them."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packing_support import MODELS, hard_groups
from torch import Tensor, nn
from train_support import make_prompts

from dpe_ray.models.adapter import new_adapter, part_of
from dpe_ray.models.policy import LoadedPolicy, load_policy, save_policy
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef, RolloutGroup

ARCHITECTURES = ("llava", "qwen2.5-vl", "qwen3-vl")


def frozen(model: nn.Module) -> str:
    """SHA-256 of all that is not trained."""
    digest = hashlib.sha256()
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        if not weight.requires_grad:
            digest.update(name.encode() + weight.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("part", ["tower", "projector"])
def test_an_adapter_on_a_part_learns_and_nothing_else_moves(architecture: str, part: str, tmp_path: Path) -> None:
    policy = MODELS[architecture]()
    model = new_adapter(policy.model, (part,), rank=4, alpha=8, whole_projector=False).eval()
    trainer = GrpoTrainer(LoadedPolicy(model, policy.processor), GrpoSettings(lr=1e-2, kl=0.1, micro_batch=8))
    groups = hard_groups(policy, tmp_path)
    before, rest = {n: w.detach().clone() for n, w in trainer.backend.weights.items()}, frozen(model)
    first, *_, last = (trainer.step(groups) for _ in range(3))
    assert first["grad_norm"] > 0
    assert (first["kl"], last["kl"] > 1e-6) == (pytest.approx(0.0, abs=1e-9), True)
    moved = [name for name, weight in trainer.backend.weights.items() if not torch.equal(weight, before[name])]
    assert any("lora_A" in name for name in moved)
    assert any("lora_B" in name for name in moved)
    assert {part_of(name) for name in moved} == {part}
    assert frozen(model) == rest


def adapters(student: PolicyRef, part: str, folder: Path) -> Iterator[PolicyRef]:
    """Three versions of an adapter on a part alone."""
    for version in (1, 2, 3):
        policy = load_policy(student, trainable="lora", lora_rank=4, lora_targets=(part,))
        torch.manual_seed(version)
        for weight in policy.model.parameters():
            if weight.requires_grad:
                nn.init.normal_(weight, std=0.5)
        save_policy(policy.model, policy.processor, folder / str(version))
        yield replace(student, adapter=str(folder / str(version)), version=version)


def rollouts(engine: TransformersEngine, folder: Path) -> list[RolloutGroup]:
    return engine.rollout(make_prompts(folder, 3), group_size=4, temperature=1.0, top_p=1.0, max_tokens=8, seed=1)


def logprobs(groups: list[RolloutGroup]) -> Tensor:
    return torch.tensor([x for group in groups for rollout in group.rollouts for x in rollout.completion.logprobs])


@pytest.mark.parametrize("part", ["tower", "projector"])
def test_rollouts_change_with_a_swapped_adapter_that_holds_a_part_alone(
    student: PolicyRef, part: str, tmp_path: Path
) -> None:
    first, second, third = adapters(student, part, tmp_path)
    engine = TransformersEngine(student.base, {})
    engine.load_policy(first)
    held, before = engine._held, rollouts(engine, tmp_path)
    engine.load_policy(second)
    engine.load_policy(third)
    assert engine._held is held  # swapped in place: the base was not read again
    swapped = rollouts(engine, tmp_path)
    anew = TransformersEngine(student.base, {})
    anew.load_policy(third)
    assert swapped == rollouts(anew, tmp_path)
    assert swapped[0].policy_version == 3
    tokens = [[[r.completion.token_ids for r in group.rollouts] for group in groups] for groups in (before, swapped)]
    assert tokens[0] != tokens[1]
    assert not torch.allclose(logprobs(before)[:4], logprobs(swapped)[:4])
