"""The policy that is trained: loaded with or without something to train, prompted, saved where others can read it.

Plain torch, transformers and peft: this file runs on a machine that has nothing else of dpe_ray's dependencies.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dpe_ray.errors import ControlToken, ModelError, UnfitPicture
from dpe_ray.models.adapter import loaded_adapter, new_adapter, open_adapter
from dpe_ray.models.dtypes import DTYPES, cast, state_dtype, stored_dtype
from dpe_ray.models.quantized import keep_differentiable, nf4, require_bitsandbytes
from dpe_ray.types import PolicyRef

Turn = tuple[str, str, Sequence[Image.Image]]
"""Role, text and the images in front of the text."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A model (transformers or PEFT, in eval mode) and its processor."""

    model: Any
    processor: Any
    stored: str = ""
    """What a whole copy is to be saved in, such as bfloat16; empty: as the model is."""


def load_policy(
    ref: PolicyRef,
    *,
    trainable: str = "",
    lora_rank: int = 16,
    lora_alpha: int = 32,
    lora_targets: Sequence[str] = ("language",),
    projector: bool = False,
    dtype: str = "auto",
    quantize: str = "",
) -> LoadedPolicy:
    """Load base and adapter; safetensors only, no remote code. Raises ModelError.

    `trainable`: "" freezes everything; "lora" continues `ref.adapter` or begins an adapter on the linear layers of
    `lora_targets`, out of language, tower and projector (vLLM can serve the first); "full" trains all weights, an
    adapter merged first. `projector` opens the projector beside an adapter: a new adapter then carries a whole copy of
    it, which transformers and PEFT load but vLLM does not. `dtype` of the base: auto (the checkpoint's), bf16 or fp32;
    low-rank weights over 16 bit are in 32. `quantize` "nf4" holds the language model in 4 bits, which compute in
    `dtype`; not for "full", and a ConfigError where bitsandbytes is missing.
    """
    if trainable not in ("", "lora", "full"):
        raise ValueError(f'trainable is "", "lora" or "full", not {trainable!r}')
    if quantize and trainable == "full":
        raise ValueError("weights in 4 bits cannot be trained; put an adapter over them")
    if quantize:
        require_bitsandbytes()
    processor = load_processor(ref.base, ref.revision)
    model, stored = _base(ref, dtype, quantize)
    try:
        model.requires_grad_(trainable == "full")
        if ref.adapter:
            model = loaded_adapter(model, ref.adapter, trainable=trainable == "lora")
        elif trainable == "lora":
            model = new_adapter(model, lora_targets, rank=lora_rank, alpha=lora_alpha, whole_projector=projector)
        if trainable == "lora":
            open_adapter(model, lora_targets, whole_projector=projector)
        elif ref.adapter and trainable == "full":
            model = model.merge_and_unload().requires_grad_(True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        place = f"{ref.base} with adapter {ref.adapter}" if ref.adapter else ref.base
        raise ModelError(f"policy {place}: cannot be loaded ({_line(error)})") from error
    return LoadedPolicy(model.eval(), processor, stored)


def load_processor(source: str, revision: str = "") -> Any:
    """Load what turns texts and images into inputs, with padding on the left. Raises ModelError."""
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False, revision=revision or None)
        processor.tokenizer.padding_side = "left"
    except ImportError as error:
        cure = "; pip install 'dpe-ray[qwen]'" if "torchvision" in str(error).lower() else ""
        raise ModelError(f"policy {source}: its processor cannot be loaded ({_line(error)}){cure}") from error
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        told = f"policy {source}: its processor cannot be loaded ({_line(error)})"
        raise ModelError(f"{told}; give a vision-language checkpoint") from error
    return processor


def render(processor: Any, text: str, images: Sequence[Image.Image]) -> dict[str, Any]:
    """Make the inputs of one prompt: a user turn of images, then text, and the opening of the answer.

    input_ids and attention_mask [1, T], image tokens expanded, with whatever the model's processor adds.
    """
    return render_turns(processor, [("user", text, images)])


def render_turns(processor: Any, turns: Sequence[Turn]) -> dict[str, Any]:
    """As `render`, for a whole conversation.

    Raises ControlToken when a text holds one of the model's, UnfitPicture when its processor cannot take the pictures.
    """
    prompt, special = chat_text(processor, turns)
    pictures = [image for _, _, images in turns for image in images]
    try:
        return dict(processor(text=prompt, images=pictures or None, return_tensors="pt", add_special_tokens=special))
    except ValueError as error:
        if not pictures:
            raise
        sizes = ", ".join(f"{picture.width} x {picture.height}" for picture in pictures)
        reason = " ".join(str(error).split())[:300]
        raise UnfitPicture(
            f"pictures of {sizes} pixels: the processor cannot take them ({reason}); use others"
        ) from error


def chat_text(processor: Any, turns: Sequence[Turn]) -> tuple[str, bool]:
    """Write a conversation out, one placeholder per image; and tell whether the tokenizer adds its special tokens."""
    messages = []
    for role, text, images in turns:
        require_plain(processor, text)
        parts: list[dict[str, Any]] = [{"type": "image"} for _ in images]
        messages.append({"role": role, "content": [*parts, {"type": "text", "text": text}]})
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    bos = processor.tokenizer.bos_token
    return prompt, not (bool(bos) and prompt.startswith(bos))  # some templates write it, some leave it to the tokenizer


def require_plain(processor: Any, text: str) -> None:
    """Raise ControlToken when a text holds one of the model's."""
    pictures = (getattr(processor, name, None) for name in ("image_token", "video_token"))  # of some, no special tokens
    controls = (*processor.tokenizer.all_special_tokens, *filter(None, pictures))
    if found := next((token for token in controls if token in text), None):
        raise ControlToken(f"text holds {found!r}, which the model reads as a control token; remove it")


def pad_token(processor: Any) -> int:
    """Id of the padding token; the end token for tokenizers that have none."""
    tokenizer = processor.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def answer_ids(policy: LoadedPolicy, text: str) -> tuple[int, ...]:
    """[T] tokens of an assistant's turn as the policy would sample them, its end token included.

    Raises ControlToken when the text holds one of the model's.
    """
    require_plain(policy.processor, text)
    tokenizer = policy.processor.tokenizer
    return (*tokenizer(text, add_special_tokens=False)["input_ids"], _end_of_turn(policy))


def saved_tensors(model: Any) -> dict[str, Any]:
    """Parameters and buffers that `save_policy` writes, by name, as the model holds them.

    Of a tied pair only the one that a load takes both from: copies would no longer be seen to be the same.
    """
    from peft import PeftModel

    tensors = model.state_dict(keep_vars=True)
    if not isinstance(model, PeftModel):
        source = model.all_tied_weights_keys.get
        return {name: tensor for name, tensor in tensors.items() if tensors.get(source(name)) is not tensor}
    return {name: tensor for name, tensor in tensors.items() if "lora_" in name or ".modules_to_save." in name}


def save_policy(
    model: Any, processor: Any, out: str | Path, tensors: dict[str, Any] | None = None, stored: str = ""
) -> None:
    """Write a PEFT directory for an adapted model, else a whole Hugging Face directory; vLLM loads both as they are.

    `tensors` are whole copies of `saved_tensors`, for a model whose own are in shards; `stored` as in `LoadedPolicy`,
    for a whole directory.
    """
    from peft import PeftModel

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    whole = not isinstance(model, PeftModel)
    if whole and stored:
        tensors = cast(tensors or saved_tensors(model), stored)
    model.save_pretrained(folder, safe_serialization=True, state_dict=tensors)
    _let_others_read(folder)
    if not whole:
        return
    if stored:
        state_dtype(folder / "config.json", stored)
    processor.save_pretrained(folder)
    if model.config.model_type == "llava":
        _name_as_on_the_hub(folder)


def _let_others_read(folder: Path) -> None:
    """Safetensors writes for the owner alone; engines of other users read as far as the folder lets them."""
    for file in folder.glob("*.safetensors"):
        file.chmod(0o666 & folder.stat().st_mode)


def _base(ref: PolicyRef, dtype: str, quantize: str) -> tuple[Any, str]:
    """Load the whole model, and tell what its copies are saved in where that is not what it was loaded in."""
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()  # a policy loads many times in a round
    source: dict[str, Any] = {"trust_remote_code": False, "revision": ref.revision or None}
    try:
        stored = stored_dtype(AutoConfig.from_pretrained(ref.base, **source))
        wanted = stored if dtype == "auto" else DTYPES[dtype]
        if quantize:
            source["quantization_config"] = nf4(wanted)
        load = AutoModelForImageTextToText.from_pretrained
        model = load(ref.base, use_safetensors=True, dtype=DTYPES[dtype], **source)
    except (OSError, ValueError, KeyError) as error:
        told = f"policy {ref.base}: cannot be loaded ({_line(error)})"
        raise ModelError(f"{told}; give a vision-language checkpoint") from error
    except RuntimeError as error:  # no memory, or no device: whatever is given
        raise ModelError(f"policy {ref.base}: cannot be loaded ({_line(error)})") from error
    keep_differentiable(model)
    return model, stored if wanted != stored else ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _end_of_turn(policy: LoadedPolicy) -> int:
    """Find the token that ends generation and that the chat template writes behind an answer.

    Some templates write none (LLaVA 1.5): then it is the tokenizer's own.
    """
    stated = policy.model.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    tokenizer = policy.processor.tokenizer
    said = [{"role": role, "content": [{"type": "text", "text": "x"}]} for role in ("user", "assistant")]
    written = tokenizer(policy.processor.apply_chat_template(said, tokenize=False), add_special_tokens=False)
    return next((id_ for id_ in reversed(written["input_ids"]) if id_ in ends), int(tokenizer.eos_token_id))


def _name_as_on_the_hub(folder: Path) -> None:
    """Keys `vision_tower.vision_model...`: transformers reads both forms, vLLM and hub tools only this one."""
    from safetensors.torch import load_file, save_file

    tower = re.compile(r"\bvision_tower\.(?!vision_model\.)")
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({tower.sub("vision_tower.vision_model.", k): v for k, v in tensors.items()}, file, {"format": "pt"})
    for index in folder.glob("*.safetensors.index.json"):
        index.write_text(tower.sub("vision_tower.vision_model.", index.read_text()))
