"""Which adapters vLLM serves as PEFT does: what it would leave out without a word is refused."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dpe_ray.errors import ModelError

_LANGUAGE = ("language_model.", "lm_head.")
_SHOWN = 2


def require_served(folder: str, *, rank: int, towers: bool) -> None:
    """Raise ModelError for an adapter that vLLM would refuse, or apply only in part.

    `rank` is the largest that there is room for; `towers` whether the engine applies what an adapter holds for picture
    tower and projector. Reads names and settings, no weights.
    """
    settings, names = _read(Path(folder))
    ranks = [settings.get("r", 0), *(settings.get("rank_pattern") or {}).values()]
    if max(ranks) > rank:
        raise _refused(folder, f"has rank {max(ranks)}, and options.max_lora_rank is {rank}")
    if whole := settings.get("modules_to_save"):
        told = f"holds whole copies of {', '.join(whole)}, and vLLM serves low-rank weights alone"
        raise _refused(folder, f"{told}; train with train.sft.projector_lr 0, or with engine: transformers")
    if not towers and (others := outside_language_model(names)):
        told = f"holds weights outside the language model ({others}), and vLLM would leave them out"
        raise _refused(folder, f"{told}; set options.enable_tower_connector_lora, or engine: transformers")


def outside_language_model(names: Iterable[str]) -> str:
    """Name some weights of picture tower or projector among those of an adapter; empty when there are none."""
    others = sorted({name.rpartition(".lora_")[0] or name for name in names if not any(p in name for p in _LANGUAGE)})
    return ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")


def _read(folder: Path) -> tuple[dict[str, Any], list[str]]:
    from safetensors import SafetensorError, safe_open

    try:
        settings: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        with safe_open(folder / "adapter_model.safetensors", "np") as file:
            names = list(file.keys())
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"adapter {folder}: cannot be read ({error}); give a PEFT directory") from error
    return settings, names


def _refused(folder: str, why: str) -> ModelError:
    return ModelError(f"engine vllm: adapter {folder} {why}")
