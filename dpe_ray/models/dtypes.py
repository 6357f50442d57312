"""The number formats of weights: what a checkpoint is stored in, and saving in it whatever was computed in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp32": "float32"}
"""What a policy can be loaded in, ours to torch's; auto is the checkpoint's."""


def stored_dtype(config: Any) -> str:
    """Torch's name of what a checkpoint says that it is stored in; float32 where it does not say."""
    dtype = config.dtype or config.get_text_config().dtype
    return str(dtype).removeprefix("torch.") if dtype else "float32"


def cast(tensors: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The same in another float format; whole numbers stay."""
    import torch

    to = getattr(torch, dtype)
    return {name: tensor.to(to) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def state_dtype(file: Path, dtype: str) -> None:
    """Write into a config.json, for the model and its parts, what the weights beside it are in."""
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "dtype" in part:
            part["dtype"] = dtype
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
