"""The micro student: a LLaVA-architecture model of about a million parameters with its tokenizer and processor.

64x64 pictures in 16-pixel patches give 16 image tokens, one per cell of the micro world. The tokenizer knows every
word of the world as one token and falls back to bytes for the rest, so that any text can be encoded. The instruction
that ends every prompt is a single token, which saves a quarter of the prompt.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

SIDE_PIXELS = 64
PATCH_PIXELS = 16
WIDTH = 128
"""Hidden size of both towers."""
VISION_LAYERS = 2
TEXT_LAYERS = 4
CONTEXT_TOKENS = 512

PROMPT_SUFFIX = "\nThink in short numbered steps, then finish with one line: answer: <answer>"
"""What every prompt ends with, after the question and its options."""
IMAGE, PAD, END = "<image>", "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIAL = (PAD, END, IMAGE, *(f"<|{role}|>" for role in ROLES))
PRE_TOKEN = r"\n?\d\.(?= )|\n?answer:|\n\([A-D]\)| ?[a-d][1-4](?![a-z0-9])| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"
"""Words with the space before them; step numbers, option letters and cell names whole."""

CHAT_TEMPLATE = """{%- for message in messages -%}
<|{{ message['role'] }}|>
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<image>{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""


def render_prompt(question: str, options: Sequence[str] = ()) -> str:
    """Text of the one user message: the question, lettered options if any, and the instruction."""
    lines = [f"\n({letter}) {option}" for letter, option in zip("ABCD", options, strict=False)]
    return question + "".join(lines) + PROMPT_SUFFIX


def build_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """Make a tokenizer with one token per word of `texts` and per number up to 99, and a byte fallback."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKEN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    numbers = (f" {number}" for number in range(100))
    words = {piece for text in (*texts, *numbers) for piece, _ in splitter.pre_tokenize_str(text)}
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += sorted(words - set(pieces))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.add_tokens([AddedToken(PROMPT_SUFFIX, special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_processor(texts: Iterable[str]) -> "LlavaProcessor":
    """Tokenizer and picture processor in one; works without torchvision."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    side = {"height": SIDE_PIXELS, "width": SIDE_PIXELS}
    pictures = CLIPImageProcessorPil(
        size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=build_tokenizer(texts),
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: "LlavaProcessor", seed: int) -> "LlavaForConditionalGeneration":
    """Initialise a student, float32, for the processor's vocabulary."""
    import torch
    from transformers import CLIPVisionConfig, GenerationConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

    torch.manual_seed(seed)
    tokens = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=4,
        image_size=SIDE_PIXELS,
        patch_size=PATCH_PIXELS,
        projection_dim=WIDTH,
    )
    text = Qwen2Config(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT_TOKENS,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        use_sliding_window=False,
        initializer_range=0.05,
        pad_token_id=tokens.pad_token_id,
        eos_token_id=tokens.eos_token_id,
        bos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        image_seq_length=(SIDE_PIXELS // PATCH_PIXELS) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        pad_token_id=tokens.pad_token_id,
        eos_token_id=tokens.eos_token_id,
        dtype="float32",
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id, max_new_tokens=64
    )
    return model


def save_student(model: "LlavaForConditionalGeneration", processor: "LlavaProcessor", folder: Path) -> None:
    """Write model, tokenizer, processor and generation settings; keys as hub checkpoints and vLLM name them."""
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    weights = folder / "model.safetensors"
    renamed = {
        re.sub(r"vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", key): value
        for key, value in load_file(weights).items()
    }
    save_file(renamed, weights, metadata={"format": "pt"})
    settings = folder / "config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
