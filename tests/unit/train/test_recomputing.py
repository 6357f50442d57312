"""Gradient checkpointing: layers run once more in the backward pass, and no number changes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packing_support import MODELS, adapted, hard_groups
from torch import Tensor, nn

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import LoadedPolicy
from dpe_ray.train.batching import MicroBatch, collate, training_sequences
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.train.recomputing import recomputed_layers
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer

ARCHITECTURES = ("llava", "qwen2.5-vl", "qwen3-vl")


def batch_of(policy: LoadedPolicy, folder: Path) -> MicroBatch:
    return collate([s for group in hard_groups(policy, folder) for s in training_sequences(group)], pad_id=0)


def gradients(
    policy: LoadedPolicy, batch: MicroBatch, packing: bool, checkpointing: bool
) -> tuple[dict[str, Tensor], Counter[str]]:
    """By weight, and how often the first layers of decoder and tower were run."""
    module = CompletionLogprobs(policy, 0.8, packing=packing, checkpointing=checkpointing).eval()
    runs: Counter[str] = Counter()
    for name, inner in policy.model.named_modules():
        if name.endswith((".layers.0.mlp", ".blocks.0.mlp")):
            part = "decoder" if "language_model" in name else "tower"
            inner.register_forward_pre_hook(lambda *_, part=part: runs.update([part]))  # type: ignore[misc]
    weights = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(3))
    (module(batch).logprobs * weights).sum().backward()
    return {name: w.grad for name, w in policy.model.named_parameters() if w.grad is not None}, runs


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "rows"])
@pytest.mark.parametrize("tuning", ["full", "lora language", "lora tower"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_without(architecture: str, tuning: str, packing: bool, tmp_path: Path) -> None:
    (kept, once), (again, twice) = (
        gradients(policy, batch_of(policy, tmp_path), packing, checkpointing)
        for policy, checkpointing in ((adapted(MODELS[architecture](), tuning), on) for on in (False, True))
    )
    assert kept.keys() == again.keys()
    assert all(torch.allclose(again[name], gradient, rtol=1e-6, atol=1e-6) for name, gradient in kept.items())
    # below an adapter on the language model the tower has no backward pass, and nothing to compute again
    assert once == {"decoder": 1, "tower": 1}
    assert twice == {"decoder": 2, "tower": 1 if tuning == "lora language" else 2}


def test_an_update_is_the_same(tmp_path: Path) -> None:
    settings = GrpoSettings(lr=1e-2, kl=0.1, micro_batch=8, updates_per_step=2)
    metrics, weights = [], []
    for checkpointing in (False, True):
        policy = adapted(MODELS["llava"](), "lora language")
        trainer = GrpoTrainer(policy, replace(settings, gradient_checkpointing=checkpointing))
        trainer.step(hard_groups(policy, tmp_path))
        metrics.append(trainer.step(hard_groups(policy, tmp_path)))
        weights.append(trainer.backend.weights)
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5, abs=1e-6)
    assert all(torch.allclose(weights[1][name], weight, atol=1e-5) for name, weight in weights[0].items())


def test_no_dropout_comes_with_it(tmp_path: Path) -> None:
    policy = adapted(MODELS["llava"](), "full")
    layers = recomputed_layers(policy.model)
    layers[0].dropout = nn.Dropout(0.5)
    module = CompletionLogprobs(policy, 1.0, checkpointing=True).eval()
    assert layers
    assert all(layer.training for layer in layers)
    assert not any(part.training for layer in layers for part in layer.modules() if part is not layer)
    batch = batch_of(policy, tmp_path)
    assert torch.equal(module(batch).logprobs, module(batch).logprobs)


def test_a_model_that_cannot_is_refused() -> None:
    model = MODELS["llava"]().model
    type(model).supports_gradient_checkpointing = False
    try:
        with pytest.raises(TrainingError, match=r"train\.gradient_checkpointing: llava"):
            recomputed_layers(model)
    finally:
        del type(model).supports_gradient_checkpointing
