"""Tiny random models of the real classes with their processors, and groups that are hard to pack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from train_support import WORDS, make_group, make_prompt

from dpe_ray.micro.student import IMAGE, build_model, build_processor
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import LoadedPolicy, render
from dpe_ray.types import Answer, AnswerKind, Prompt, RolloutGroup, Sample

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llava(decoder: str = "qwen2") -> LoadedPolicy:
    """CLIP tower and a decoder with fewer key heads than query heads."""
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config, Qwen3Config

    processor = build_processor([f" {word}" for word in WORDS])
    student = build_model(processor, 0).config
    kinds: dict[str, Any] = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}
    text = kinds[decoder](**SHAPE, num_key_value_heads=2, head_dim=8, vocab_size=student.text_config.vocab_size)
    torch.manual_seed(0)
    config = LlavaConfig(**{**student.to_dict(), "text_config": text.to_dict(), "tie_word_embeddings": False})
    return LoadedPolicy(LlavaForConditionalGeneration(config).eval(), processor)


MODELS: dict[str, Callable[[], LoadedPolicy]] = {
    "llava": llava,
    "llava-qwen3": lambda: llava("qwen3"),
    "llava-llama": lambda: llava("llama"),
}


def adapted(policy: LoadedPolicy, tuning: str) -> LoadedPolicy:
    """Open every weight, or only an adapter whose two matrices are both random."""
    from peft import LoraConfig, get_peft_model

    if tuning == "full":
        return LoadedPolicy(policy.model.requires_grad_(True), policy.processor)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model\..*(q|k|v|o|up|down|gate)_proj")
    model = get_peft_model(policy.model, settings)
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
