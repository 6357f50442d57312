"""A packed row gives the numbers of padded rows: log-probs, gradients and updates, whatever the model."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packing_support import MODELS, adapted, hard_groups, llava
from torch import Tensor, nn

from dpe_ray.models.policy import LoadedPolicy
from dpe_ray.train import logprobs, prefix_attention
from dpe_ray.train.batching import MicroBatch, collate, training_sequences
from dpe_ray.train.logprobs import CompletionLogprobs, Scored
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import RolloutGroup

SETTINGS = GrpoSettings(lr=1e-2, kl=0.1, micro_batch=8, updates_per_step=1)


def batch_of(groups: list[RolloutGroup]) -> MicroBatch:
    return collate([sequence for group in groups for sequence in training_sequences(group)], pad_id=0)


def policy_of(model: str, tuning: str = "full") -> LoadedPolicy:
    return adapted(MODELS[model](), tuning)


def decoder_shapes(model: nn.Module) -> list[torch.Size]:
    """Sizes of what reaches the decoder's layers from now on."""
    shapes: list[torch.Size] = []
    layer = next(module for name, module in model.named_modules() if name.endswith("language_model.layers.0"))
    layer.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    return shapes


def run(policy: LoadedPolicy, batch: MicroBatch, packing: bool) -> tuple[Scored, dict[str, Tensor]]:
    """Scores, and the gradients of a random sum of the log-probs."""
    module = CompletionLogprobs(policy, temperature=0.8, packing=packing).eval()
    shapes = decoder_shapes(policy.model)
    scored = module(batch)
    weights = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(3))
    (scored.logprobs * weights).sum().backward()
    assert shapes[0][0] == (1 if packing else len(batch.prompts))
    gradients = {name: w.grad.clone() for name, w in policy.model.named_parameters() if w.grad is not None}
    policy.model.zero_grad()
    return scored, gradients


def largest_difference(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Over all weights, relative to the largest gradient of the weight."""
    assert set(ours) == set(plain)
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    return max(
        float((ours[name] - gradient).abs().max()) / max(float(gradient.abs().max()), 1e-3 * largest)
        for name, gradient in plain.items()
    )


@pytest.mark.parametrize("tuning", ["full", "lora language", "lora tower", "lora language tower projector"])
@pytest.mark.parametrize("model", MODELS)
def test_packed_row_has_the_logprobs_and_gradients_of_padded_rows(model: str, tuning: str, tmp_path: Path) -> None:
    policy = policy_of(model, tuning)
    batch = batch_of(hard_groups(policy, tmp_path))
    plain, plain_gradients = run(policy, batch, packing=False)
    packed, gradients = run(policy, batch, packing=True)
    assert torch.allclose(packed.logprobs, plain.logprobs, rtol=1e-5, atol=1e-5)
    assert torch.allclose(packed.entropy, plain.entropy, rtol=1e-5, atol=1e-5)
    assert largest_difference(gradients, plain_gradients) < 1e-5
    in_tower = [name for name in gradients if "vision" in name or "visual" in name]
    assert bool(in_tower) == (tuning != "lora language")


@pytest.mark.parametrize("tuning", ["full", "lora language"])
@pytest.mark.parametrize("updates", [1, 2])
def test_update_is_the_same_with_and_without_sharing(tuning: str, updates: int, tmp_path: Path) -> None:
    metrics = []
    for shared_prefix in ("auto", "off"):
        policy = policy_of("llava", tuning)
        trainer = GrpoTrainer(policy, replace(SETTINGS, shared_prefix=shared_prefix, updates_per_step=updates))
        groups = hard_groups(policy, tmp_path)
        trainer.step(groups)
        metrics.append(trainer.step(groups))
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, abs=1e-5)
    assert metrics[0]["kl"] > 1e-4


def test_long_completions_in_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("llava")
    batch = batch_of(hard_groups(policy, tmp_path))
    _, whole = run(policy, batch, packing=True)
    monkeypatch.setattr(prefix_attention, "_BLOCK", 3)
    _, blocks = run(policy, batch, packing=True)
    assert largest_difference(blocks, whole) < 1e-5


def test_vocabulary_in_chunks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("llava")
    batch = batch_of(hard_groups(policy, tmp_path))
    scored, whole = run(policy, batch, packing=True)
    vocabulary = policy.model.config.text_config.vocab_size
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 4 * vocabulary)
    rows: list[int] = []
    policy.model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    chunked, chunks = run(policy, batch, packing=True)
    assert max(rows) == 4
    assert torch.allclose(chunked.logprobs, scored.logprobs, atol=1e-6)
    assert largest_difference(chunks, whole) < 1e-5


def test_sequences_without_anything_to_share_stay_in_rows(tmp_path: Path) -> None:
    policy = policy_of("llava")
    sequence = training_sequences(hard_groups(policy, tmp_path)[0])[1]
    module = CompletionLogprobs(policy, temperature=1.0)
    shapes = decoder_shapes(policy.model)
    module(collate([sequence], pad_id=0))
    assert shapes[0] == (1, sequence.length, 32)
    module(collate([sequence, sequence], pad_id=0))
    assert shapes[1] == (1, len(sequence.prompt_ids) + 2 * len(sequence.completion_ids), 32)


def test_an_unknown_model_is_told_once_and_trained_in_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = llava()
    batch = batch_of(hard_groups(policy, tmp_path)[:1])
    plain, _ = run(policy, batch, packing=False)
    policy.model.config.model_type = "vipllava"
    with caplog.at_level(logging.WARNING):
        module = CompletionLogprobs(policy, temperature=0.8)
        shapes = decoder_shapes(policy.model)
        scored = module(batch)
        module(batch)
    assert shapes[0][0] == 4
    as_usual = [0, 1, 3]  # the third samples a placeholder, which such a model is not shown
    assert torch.allclose(scored.logprobs[as_usual], plain.logprobs[as_usual], atol=1e-5)
    (message,) = [record.getMessage() for record in caplog.records if record.name == logprobs.__name__]
    assert "vipllava" in message


def test_a_decoder_with_one_window_for_all_layers_is_trained_in_rows(tmp_path: Path) -> None:
    policy = llava("mistral with a window")
    batch = batch_of(hard_groups(policy, tmp_path))
    plain, _ = run(policy, batch, packing=False)
    shapes = decoder_shapes(policy.model)
    scored = CompletionLogprobs(policy, temperature=0.8).eval()(batch)
    assert shapes[0][0] == len(batch.prompts)
    assert torch.allclose(scored.logprobs, plain.logprobs, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"]}, "without full attention"),
        ({"_attn_implementation": "eager"}, "eager"),
    ],
)
def test_a_decoder_with_other_attention_is_refused(change: dict[str, object], reason: str) -> None:
    model = llava().model
    for name, value in change.items():
        setattr(model.config.text_config, name, value)
    assert reason in prefix_attention.enable(model)


def test_a_saved_model_does_not_name_our_attention(tmp_path: Path) -> None:
    model = llava().model
    assert prefix_attention.enable(model) == ""
    model.save_pretrained(tmp_path)
    assert prefix_attention.NAME not in (tmp_path / "config.json").read_text()
