"""QLoRA: a language model in 4 bits below an adapter, in trainer and engine."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from packing_support import MODELS, adapted
from torch import nn
from train_support import make_groups, make_prompts

from dpe_ray.errors import ConfigError
from dpe_ray.models import quantized
from dpe_ray.models.adapter import part_of
from dpe_ray.models.local_rollouts import LocalRolloutPool
from dpe_ray.models.policy import load_policy
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.train.flops import Flops
from dpe_ray.train.loop import train, trainable
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef

SETTINGS = GrpoSettings(quantize="nf4", lora_rank=4, lr=1e-2, kl=0.01, micro_batch=8)


def in_4_bits(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}


def test_linear_layers_of_the_language_model_alone_are_in_4_bits(student: PolicyRef) -> None:
    whole, held = load_policy(student).model, load_policy(student, quantize="nf4").model
    linear = {name for name, module in whole.named_modules() if isinstance(module, nn.Linear)}
    assert in_4_bits(held) == {name for name in linear if part_of(name) == "language"} != set()
    assert {weight.dtype for name, weight in held.named_parameters() if part_of(name) != "language"} == {torch.float32}
    assert Flops(held).weights["language"].all == Flops(whole).weights["language"].all


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["auto", "bf16"])
def test_an_adapter_over_them_learns_in_32_bit_and_they_stay(
    student: PolicyRef, dtype: str, checkpointing: bool, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, dtype=dtype, gradient_checkpointing=checkpointing)
    trainer = GrpoTrainer(trainable(student, settings, 0), settings)
    model, groups = trainer.policy.model, make_groups(student, tmp_path)
    held = {n: weight.detach().clone() for n, weight in model.named_parameters() if not weight.requires_grad}
    before = {name: weight.detach().clone() for name, weight in trainer.backend.weights.items()}
    first, *_, last = (trainer.step(groups) for _ in range(3))
    assert (first["kl"], last["kl"] > 1e-6) == (pytest.approx(0.0, abs=1e-9), True)
    assert {weight.dtype for weight in trainer.backend.weights.values()} == {torch.float32}
    assert all(not torch.equal(weight, before[name]) for name, weight in trainer.backend.weights.items())
    assert all(torch.equal(weight, held[name]) for name, weight in model.named_parameters() if name in held)


@pytest.mark.parametrize("quantize", ["nf4", ""])
def test_rollouts_have_the_trainers_probabilities_where_the_engine_holds_the_same_4_bits(
    student: PolicyRef, quantize: str, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, prompts_per_step=4, group_size=4, steps=3, max_tokens=6, drop_equal_groups=False)
    pool = LocalRolloutPool(("transformers", student.base, {"quantize": quantize}), str(tmp_path / "board"))
    result = train(student, make_prompts(tmp_path, 4), pool, settings, out=str(tmp_path / "out"), seed=0)
    gaps = [step["logprob_gap"] for step in result.metrics]
    assert max(gaps) < 1e-4 if quantize else min(gaps) > 1e-3
    assert (tmp_path / "out" / "adapter_config.json").exists()
    load_policy(result.policy, quantize="nf4")


def test_the_engine_swaps_an_adapter_over_4_bits_in_place(student: PolicyRef, tmp_path: Path) -> None:
    engine = TransformersEngine(student.base, {"quantize": "nf4"})
    settings = replace(SETTINGS, prompts_per_step=2, group_size=4, steps=1, max_tokens=4, drop_equal_groups=False)
    outs = []
    for seed in (1, 2):
        pool = LocalRolloutPool(("transformers", student.base, {"quantize": "nf4"}), str(tmp_path / "board"))
        prompts, out = make_prompts(tmp_path, 2), str(tmp_path / str(seed))
        outs.append(train(student, prompts, pool, settings, out=out, seed=seed).policy)
    engine.load_policy(outs[0])
    held = engine._held
    engine.load_policy(outs[1])
    assert engine._held is held
    asked = {"group_size": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1}
    anew = TransformersEngine(student.base, {"quantize": "nf4"})
    anew.load_policy(outs[1])
    assert engine.rollout(make_prompts(tmp_path, 2), **asked) == anew.rollout(make_prompts(tmp_path, 2), **asked)


def test_what_cannot_be_is_refused(student: PolicyRef, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot be trained"):
        load_policy(student, trainable="full", quantize="nf4")
    with pytest.raises(ConfigError, match="nf4 or empty, not 'int8'"):
        TransformersEngine.check_options({"quantize": "int8"})
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'dpe-ray\[qlora\]'"):
        load_policy(student, quantize="nf4")
    assert adapted(MODELS["llava"](), "lora language")  # which needs no package
