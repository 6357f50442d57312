"""A language model held in 4 bits (QLoRA, arXiv 2305.14314): its linear layers in NF4, all else as it is."""

from importlib.util import find_spec
from typing import Any

from dpe_ray.errors import ConfigError

_ELSEWHERE = r"(?!.*\blanguage_model\.)"
"""Matches every name outside the language model: picture tower, projector, head."""


def require_bitsandbytes() -> None:
    """Raise ConfigError where the package that computes in 4 bits is not installed."""
    if find_spec("bitsandbytes") is None:
        raise ConfigError("quantize: nf4 needs bitsandbytes: pip install 'dpe-ray[qlora]'")


def nf4(dtype: str) -> Any:
    """What transformers is told: NF4 with double quantisation, as in the paper; computed in torch's `dtype`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[_ELSEWHERE],
    )


def keep_differentiable(model: Any) -> None:
    """Keep layers in 4 bits from packing their weights anew for decoding, which bitsandbytes does on some CPUs.

    Those with AVX512-BF16: packed weights have no backward pass, and their products are rounded to 16 bit.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_quantized(model: Any) -> bool:
    """Whether a model, or the base below its adapter, is held in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
