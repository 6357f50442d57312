"""Tiny random Qwen2.5-VL and Qwen3-VL of the real classes with their real processors, which need torchvision."""

from pathlib import Path

import torch
from train_support import WORDS
from transformers import (
    BaseVideoProcessor,
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from dpe_ray.micro.student import IMAGE, build_tokenizer

MARKS = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
TEMPLATE = """{%- for message in messages -%}
<|{{ message['role'] }}|>
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<|vision_start|><image><|vision_end|>{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""


def save_tiny_qwen(folder: Path) -> str:
    """Write a Qwen2.5-VL as a Hugging Face directory; windows in its tower, m-RoPE in its decoder."""
    processor = _processor(Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, patch=14)
    torch.manual_seed(0)
    return _saved(Qwen2_5_VLForConditionalGeneration(_config(processor.tokenizer)), processor, folder)


def save_tiny_qwen3(folder: Path) -> str:
    """Write a Qwen3-VL, whose tower also feeds the decoder's first layer."""
    processor = _processor(Qwen3VLProcessor, Qwen3VLVideoProcessor, patch=16)
    known = _config(processor.tokenizer).to_dict()
    text = {name: known["text_config"][name] for name in TEXT} | {"head_dim": 32}
    tower = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": 128,
        "patch_size": 16,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }
    marks = {name: known[name] for name in ("image_token_id", "video_token_id", "vision_start_token_id")}
    torch.manual_seed(0)
    config = Qwen3VLConfig(
        text_config=text, vision_config=tower, vision_end_token_id=known["vision_end_token_id"], **marks
    )
    return _saved(Qwen3VLForConditionalGeneration(config), processor, folder)


TEXT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "vocab_size",
    "rope_parameters",
    "bos_token_id",
    "eos_token_id",
)


def _processor(kind: type[ProcessorMixin], videos: type[BaseVideoProcessor], patch: int) -> ProcessorMixin:
    """Pictures of 4 to 16 merged patches."""
    sides = {"shortest_edge": (4 * patch) ** 2, "longest_edge": (8 * patch) ** 2}
    sizes = {"patch_size": patch, "merge_size": 2, "size": sides}
    tokenizer = build_tokenizer([f" {word}" for word in WORDS])
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    tokenizer.chat_template = TEMPLATE
    return kind(
        image_processor=Qwen2VLImageProcessor(**sizes),
        video_processor=videos(**sizes),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
    )


def _saved(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> str:
    with torch.no_grad():  # far enough apart that no rounding changes which token is likeliest
        for parameter in model.eval().parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
        model.lm_head.weight.mul_(8.0)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def _config(tokenizer: object) -> Qwen2_5_VLConfig:
    token = tokenizer.convert_tokens_to_ids  # type: ignore[attr-defined]
    start, end, video, image = map(token, (*MARKS, IMAGE))
    text = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "vocab_size": len(tokenizer),  # type: ignore[arg-type]
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,  # type: ignore[attr-defined]
    }
    tower = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": 128,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    marks = {"vision_start_token_id": start, "vision_end_token_id": end}
    tokens = {"image_token_id": image, "video_token_id": video, **marks}
    return Qwen2_5_VLConfig(text_config=text, vision_config=tower, dtype="float32", tie_word_embeddings=False, **tokens)
