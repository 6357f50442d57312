"""Tiny random models of the real classes with their processors, and groups that are hard to pack."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from train_support import WORDS, make_group, make_prompt

from dpe_ray.micro.student import IMAGE, build_model, build_processor
from dpe_ray.models.adapter import new_adapter
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import LoadedPolicy, render
from dpe_ray.types import Answer, AnswerKind, Prompt, RolloutGroup, Sample

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llava(decoder: str = "qwen2") -> LoadedPolicy:
    """CLIP tower and a decoder with fewer key heads than query heads."""
    from transformers import (
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        MistralConfig,
        Qwen2Config,
        Qwen3Config,
    )

    processor = build_processor([f" {word}" for word in WORDS])
    student = build_model(processor, 0).config
    kinds: dict[str, Any] = {
        "qwen2": Qwen2Config,
        "qwen3": Qwen3Config,
        "llama": LlamaConfig,
        "mistral": partial(MistralConfig, sliding_window=None),
        "mistral with a window": partial(MistralConfig, sliding_window=8),
    }
    text = kinds[decoder](**SHAPE, num_key_value_heads=2, head_dim=8, vocab_size=student.text_config.vocab_size)
    torch.manual_seed(0)
    config = LlavaConfig(**{**student.to_dict(), "text_config": text.to_dict(), "tie_word_embeddings": False})
    return LoadedPolicy(LlavaForConditionalGeneration(config).eval(), processor)


class QwenProcessor:
    """What Qwen's own processors do with pictures and text, without the torchvision that theirs need for videos."""

    def __init__(self, patch_size: int) -> None:
        from transformers import Qwen2VLImageProcessorPil

        self.tokenizer: Any = build_processor([f" {word}" for word in WORDS]).tokenizer
        self._pictures = Qwen2VLImageProcessorPil(
            patch_size=patch_size, merge_size=2, min_pixels=16 * patch_size**2, max_pixels=64 * patch_size**2
        )

    def apply_chat_template(self, messages: object, **options: object) -> str:
        """As any processor."""
        return str(self.tokenizer.apply_chat_template(messages, **options))

    def __call__(self, text: str, images: list[Any] | None, **options: object) -> dict[str, torch.Tensor]:
        """One prompt; a placeholder becomes as many as its picture has merged patches, between two markers."""
        inputs: dict[str, torch.Tensor] = {}
        if images:
            inputs |= self._pictures(images, return_tensors="pt")
            for grid in inputs["image_grid_thw"]:
                placeholders = "\0" * (int(grid.prod()) // 4)
                text = text.replace(IMAGE, f"<|user|>{placeholders}<|end|>", 1)
        inputs |= self.tokenizer(text.replace("\0", IMAGE), return_tensors="pt", add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        pictures = inputs["input_ids"] == self.tokenizer.convert_tokens_to_ids(IMAGE)
        return {**inputs, "mm_token_type_ids": pictures.int()}


def qwen(version: str) -> LoadedPolicy:
    """Qwen2.5-VL with windows in its tower, or Qwen3-VL whose tower also feeds the decoder's first layers."""
    import transformers

    processor = QwenProcessor(patch_size=4)
    token = processor.tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    text = {**SHAPE, "num_key_value_heads": 2, "head_dim": 8, "rope_parameters": rope}
    tower: dict[str, Any] = {"depth": 2, "num_heads": 2, "intermediate_size": 32, "patch_size": 4}
    if version == "Qwen2_5_VL":
        tower |= {"hidden_size": 16, "out_hidden_size": 32, "window_size": 16, "fullatt_block_indexes": [1]}
    else:
        tower |= {
            "hidden_size": 16,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        }
    torch.manual_seed(0)
    config = getattr(transformers, f"{version}Config")(
        text_config={"bos_token_id": None, "eos_token_id": None} | {**text, "vocab_size": len(processor.tokenizer)},
        vision_config=tower,
        image_token_id=token(IMAGE),
        video_token_id=token("<|system|>"),
        vision_start_token_id=token("<|user|>"),
        vision_end_token_id=token("<|end|>"),
    )
    model = getattr(transformers, f"{version}ForConditionalGeneration")(config)
    return LoadedPolicy(model.eval(), processor)


MODELS: dict[str, Callable[[], LoadedPolicy]] = {
    "llava": llava,
    "llava-qwen3": lambda: llava("qwen3"),
    "llava-llama": lambda: llava("llama"),
    "llava-mistral": lambda: llava("mistral"),
    "qwen2.5-vl": lambda: qwen("Qwen2_5_VL"),
    "qwen3-vl": lambda: qwen("Qwen3VL"),
}


def adapted(policy: LoadedPolicy, tuning: str) -> LoadedPolicy:
    """Open every weight, or only an adapter whose two matrices are both random.

    `tuning` is full, or lora and what it is on: "lora tower projector"; with "whole" it carries the projector too.
    """
    if tuning == "full":
        return LoadedPolicy(policy.model.requires_grad_(True), policy.processor)
    targets = [part for part in tuning.split()[1:] if part != "whole"]
    model = new_adapter(policy.model, targets, rank=4, alpha=8, whole_projector="whole" in tuning)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return LoadedPolicy(model.eval(), policy.processor)


def hard_groups(policy: LoadedPolicy, folder: Path) -> list[RolloutGroup]:
    """Prompts with one picture, with two and with none, of different lengths.

    Completions of 0 to 7 tokens; one of them holds the model's placeholder for pictures.
    """
    one, other, third = (make_prompt(folder, index, " ".join(WORDS[: 3 + 2 * index])) for index in range(3))
    prompts = [one, _asked(other, third), _asked()]
    placeholder = policy.processor.tokenizer.convert_tokens_to_ids(IMAGE)
    groups = []
    for index, prompt in enumerate(prompts):
        images = [decode(read_bytes(image)) for image in prompt.sample.images]
        ids = render(policy.processor, prompt.text, images)["input_ids"][0].tolist()
        completions = [[10 + index + k for k in range((3 * index + 2 * member) % 8)] for member in range(4)]
        completions[2][1:2] = [placeholder] if index < 2 else []
        groups.append(make_group(prompt, ids, [1.0, 0.0, float(index % 2), 0.5], completions, logprob=-6.0))
    return groups


def _asked(*others: Prompt) -> Prompt:
    """A question about the pictures of other prompts."""
    images = tuple(image for prompt in others for image in prompt.sample.images)
    text = "is the circle left"
    return Prompt(Sample(images, text, Answer(AnswerKind.TEXT, "red")), text)
