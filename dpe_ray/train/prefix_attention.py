"""Attention over a packed row, in which each prompt stands once. Exact, and without a patch to any model.

It is registered under a name of its own with transformers, whose decoders hand keyword arguments of a forward pass
down to it; without a row it is the plain `sdpa`. The idea of a group sharing its prefix: Prefix Grouper (arXiv
2506.05433). Axes as in `train.packed`, and H heads of size D.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from dpe_ray.train.packed import PackedRow

NAME = "dpe_ray_packed"
_MODELS = ("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Models whose positions and pictures a packed row reproduces."""
_BLOCK = 256
"""Completion tokens attended from at once: they see no key behind the block, which saves half the work of long ones."""


def enable(model: Any) -> str:
    """Make a transformers model take packed rows, beside all that it took before; returns why it cannot, or ""."""
    config = model.config
    if config.model_type not in _MODELS:
        return f"{config.model_type} is not one of {', '.join(_MODELS)}"
    text = config.get_text_config()
    decoder = model.get_decoder()
    if not decoder._supports_attention_backend:
        return f"its decoder {text.model_type} hands no arguments down to its attention"
    if not _sees_everything(text):
        return "its decoder has layers without full attention"
    if text._attn_implementation not in ("sdpa", NAME):
        return f"its attention is {text._attn_implementation}, not sdpa"
    text._attn_implementation = NAME
    return ""


def _sees_everything(text: Any) -> bool:
    """Whether every layer attends to all that came before; older configs state one window for all, or none."""
    if kinds := getattr(text, "layer_types", None):
        return set(kinds) == {"full_attention"}
    return not (getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed_row: PackedRow | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: queries, keys and values [1, H, N, D] -> [1, N, H, D], or `sdpa` without a row."""
    if packed_row is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    return _attend(packed_row, query, key, value, scaling), None


def _attend(row: PackedRow, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Prompts see themselves, completions also their prompt."""
    heads = query.shape[1]
    queries, keys, values = (states[0].transpose(0, 1).flatten(1) for states in (query, key, value))

    def run(states: Tensor, places: Tensor) -> Tensor:
        taken = embedding(places, states).view(*places.shape, -1, query.shape[-1]).transpose(1, 2)
        return taken if taken.shape[1] == heads else taken.repeat_interleave(heads // taken.shape[1], dim=1)

    prompts = scaled_dot_product_attention(
        run(queries, row.prompts), run(keys, row.prompts), run(values, row.prompts), is_causal=True, scale=scaling
    )
    completions = _in_blocks(run(queries, row.completions), run(keys, row.seen), run(values, row.seen), row, scaling)
    parts = [
        attended.transpose(1, 2).flatten(0, 1).index_select(0, slots)
        for attended, slots in ((prompts, row.prompt_slots), (completions, row.completion_slots))
    ]
    return torch.cat(parts)[None]


def _in_blocks(query: Tensor, key: Tensor, value: Tensor, row: PackedRow, scaling: float | None) -> Tensor:
    """[B, H, T, D] of completions over their prompts and themselves."""
    width, before = query.shape[2], row.prompts.shape[1]
    blocks = []
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        visible = before + end
        blocks.append(
            scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, :visible],
                value[:, :, :visible],
                attn_mask=row.mask[:, :, start:end, :visible],
                scale=scaling,
            )
        )
    return torch.cat(blocks, dim=2)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
