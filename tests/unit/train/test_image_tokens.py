"""Pictures and placeholders fit, in models of the three architectures, before any time is spent."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from packing_support import MODELS, SHAPE, adapted, hard_groups
from train_support import LocalPool, make_prompts
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PixtralVisionConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import LoadedPolicy, answer_ids
from dpe_ray.train.image_tokens import patches, placeholders, require_features
from dpe_ray.train.loop import train
from dpe_ray.train.rendering import prompt_inputs
from dpe_ray.train.settings import GrpoSettings, SftSettings
from dpe_ray.train.sft_loop import train as train_sft
from dpe_ray.train.sft_trainer import SftTrainer
from dpe_ray.train.targets import completion_text
from dpe_ray.types import PolicyRef, Prompt

ARCHITECTURES = ("llava", "qwen2.5-vl", "qwen3-vl")


def mixed_prompts(policy: LoadedPolicy, folder: Path) -> list[Prompt]:
    """With one picture, with two, and with none."""
    return [group.prompt for group in hard_groups(policy, folder)]


def plain_loss(policy: LoadedPolicy, prompts: list[Prompt]) -> float:
    """Cross-entropy per completion token, every sample alone, by the model's own forward pass."""
    losses = []
    for prompt in prompts:
        inputs = prompt_inputs(policy.processor, prompt)
        ids = torch.tensor([answer_ids(policy, completion_text(prompt.sample))])
        full = dict(inputs) | {"input_ids": torch.cat([inputs["input_ids"], ids], 1)}
        full["attention_mask"] = torch.ones_like(full["input_ids"])
        if "mm_token_type_ids" in inputs:
            full["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1)
        with torch.no_grad():
            logits = policy.model(**full).logits[0, -ids.shape[1] - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0], reduction="none"))
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_placeholder_gets_one_feature(architecture: str, tmp_path: Path) -> None:
    policy = MODELS[architecture]()
    found = []
    for prompt in mixed_prompts(policy, tmp_path):
        inputs = prompt_inputs(policy.processor, prompt)
        require_features(policy.model.config, inputs, "x")
        pictures = {name: inputs[name] for name in ("pixel_values", "image_grid_thw") if name in inputs}
        with torch.no_grad():
            features = policy.model.get_image_features(**pictures).pooler_output if pictures else []
        found.append((placeholders(policy.model.config, inputs), patches(policy.model.config, inputs)))
        assert found[-1][0] == sum(len(feature) for feature in features)
    one, two, none = found
    assert (two, none) == ((2 * one[0], 2 * one[1]), (0, 0))
    assert one[0] * (1 if architecture == "llava" else 4) == one[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_placeholder_too_few_is_refused_with_the_samples_name(architecture: str, tmp_path: Path) -> None:
    policy = MODELS[architecture]()
    inputs = prompt_inputs(policy.processor, mixed_prompts(policy, tmp_path)[0])
    keep = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    keep[0, int((inputs["input_ids"][0] == policy.model.config.image_token_id).nonzero()[0])] = False
    with pytest.raises(TrainingError, match=r"sample s7: .* image tokens .* features"):
        require_features(policy.model.config, inputs | {"input_ids": inputs["input_ids"][keep][None]}, "s7")


def towered(tower: str, strategy: str) -> Any:
    """LLaVA over a tower of 4 x 4 patches."""
    kinds: dict[str, Any] = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig, "pixtral": PixtralVisionConfig}
    shape: dict[str, Any] = SHAPE | {"image_size": 32, "patch_size": 8}
    text = Qwen2Config(**SHAPE, num_key_value_heads=2, vocab_size=16)
    config = LlavaConfig(
        vision_config=kinds[tower](**shape),
        text_config=text,
        image_token_index=7,
        vision_feature_layer=-1,
        vision_feature_select_strategy=strategy,
    )
    return LlavaForConditionalGeneration(config).eval()


@pytest.mark.parametrize("strategy", ["full", "default"])
@pytest.mark.parametrize("tower", ["clip", "siglip"])
def test_llava_takes_as_many_placeholders_as_its_tower_gives_features(tower: str, strategy: str) -> None:
    model, pixels = towered(tower, strategy), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        count = sum(len(feature) for feature in model.get_image_features(pixel_values=pixels).pooler_output)
    require_features(model.config, {"input_ids": torch.tensor([[1] + [7] * count]), "pixel_values": pixels}, "x")
    with pytest.raises(TrainingError, match=f"{count} features"):
        require_features(model.config, {"input_ids": torch.tensor([[7] * (count + 1)]), "pixel_values": pixels}, "x")


def test_a_tower_of_no_known_kind_is_left_to_the_model_but_placeholders_without_a_picture_are_not() -> None:
    config, ids = towered("pixtral", "full").config, torch.tensor([[7, 7, 7]])
    require_features(config, {"input_ids": ids, "pixel_values": torch.randn(1, 3, 32, 32)}, "x")
    with pytest.raises(TrainingError, match="3 image tokens and its pictures give 0 features"):
        require_features(config, {"input_ids": ids}, "x")


@pytest.mark.parametrize("packing", ["auto", "off"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samples_with_no_one_and_two_pictures_are_tuned_on_in_one_batch(
    architecture: str, packing: str, tmp_path: Path
) -> None:
    policy = adapted(MODELS[architecture](), "lora language tower projector")
    prompts = mixed_prompts(policy, tmp_path)
    expected = plain_loss(policy, prompts)
    trainer = SftTrainer(policy, SftSettings(lr=1e-2, warmup=0.0, shared_prefix=packing), steps=10)
    losses = [trainer.step(prompts, prompts[0])["loss"] for _ in range(10)]
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0] - 0.2


@pytest.fixture
def misfit(student: PolicyRef, tmp_path: Path) -> PolicyRef:
    """A checkpoint whose processor takes patches for smaller than they are."""
    shutil.copytree(student.base, tmp_path / "misfit")
    file = tmp_path / "misfit" / "processor_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"patch_size": config["patch_size"] // 2}))
    return replace(student, base=str(tmp_path / "misfit"))


class Unasked(LocalPool):
    """A pool that nobody may ask."""

    def rollout(self, *arguments: object, **settings: object) -> None:  # type: ignore[override]
        raise AssertionError("rollouts were paid for")


def test_a_processor_that_does_not_fit_is_refused_before_the_first_rollout(misfit: PolicyRef, tmp_path: Path) -> None:
    settings = GrpoSettings(prompts_per_step=2, group_size=2, steps=1, max_tokens=4)
    with pytest.raises(TrainingError, match="64 image tokens and its pictures give 16 features"):
        train(misfit, make_prompts(tmp_path, 2), Unasked(misfit), settings, out=str(tmp_path / "out"), seed=0)
    sft = SftSettings(batch_size=2, rationale_share=0.0)
    with pytest.raises(TrainingError, match="64 image tokens and its pictures give 16 features"):
        train_sft(misfit, make_prompts(tmp_path, 2), Unasked(misfit), sft, out=str(tmp_path / "out"), seed=0)
