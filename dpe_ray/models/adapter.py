"""Adapters for training: LoRA on the linear layers of chosen parts of a vision-language model, or a whole projector."""

import logging
import re
from collections.abc import Sequence
from typing import Any

PROJECTORS = ("multi_modal_projector", "mm_projector", "merger", "deepstack_merger_list", "connector", "aligner")
"""Names that checkpoints give to what lies between the picture tower and the language model."""
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it where it is: it warns of speed on CPUs
_NAMES = {
    "language": {"language_model"},
    "projector": set(PROJECTORS),
    "tower": {"vision_tower", "vision_model", "visual"},
}
"""What a step of a module's name may be in each part; a projector that lies in the tower is none of it."""


def part_of(name: str) -> str:
    """Tell by its name what a weight or module belongs to: language, tower or projector; "" for head and unknown."""
    steps = set(name.split("."))
    return next((part for part, names in _NAMES.items() if not names.isdisjoint(steps)), "")


def in_projector(weight: str) -> bool:
    """Tell by its name whether a weight belongs to the projector, in whatever model."""
    return part_of(weight) == "projector"


def new_adapter(model: Any, targets: Sequence[str], *, rank: int, alpha: int, whole_projector: bool) -> Any:
    """Put LoRA on all linear layers of the parts `targets`; it changes nothing yet. Returns the PEFT model.

    `whole_projector`: it also carries a copy of the projector, to be trained as it is. Raises ValueError where a part
    has no linear layers that are known by name.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=_linear_layers(model, targets),
        modules_to_save=_projectors(model) if whole_projector else None,
    )
    return get_peft_model(model, settings)


def loaded_adapter(model: Any, adapter: str, *, trainable: bool) -> Any:
    """Read a PEFT directory onto its base. Returns the PEFT model."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter, is_trainable=trainable)


def open_adapter(model: Any, targets: Sequence[str], *, whole_projector: bool) -> None:
    """Train what an adapter holds of the parts `targets`, and freeze the rest of it.

    The head goes with the language model. A projector that it carries whole is trained if `whole_projector`. Raises
    ValueError when it holds nothing of a part.
    """
    opened = set()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            part = "whole projector" if in_projector(name) and "lora_" not in name else part_of(name) or "language"
            weight.requires_grad_(part in targets or (whole_projector and part == "whole projector"))
            opened |= {part} if weight.requires_grad else set()
    wanted = [*targets, *["whole projector"] * whole_projector]
    if missing := next((part for part in wanted if part not in opened), ""):
        raise ValueError(f"its adapter holds no {missing} that could be trained; see train.lora_targets")


def _projectors(model: Any) -> list[str]:
    """Name what PEFT is to copy: of a list of modules, which it does not take, every member."""
    from torch import nn

    found = {path.rsplit(".", 1)[-1]: module for path, module in model.named_modules()}
    names = []
    for name in filter(found.__contains__, PROJECTORS):
        module = found[name]
        if isinstance(module, nn.ModuleList):
            names += [f"{name}.{index}" for index in range(len(module))]
        else:
            names.append(name)
    return names


def _linear_layers(model: Any, targets: Sequence[str]) -> str:
    """Write a regular expression of their names, which are the same in every block but for its number."""
    from torch import nn

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if missing := next((part for part in targets if part not in map(part_of, linear)), ""):
        raise ValueError(f"no linear layers of its {missing} are known by name; leave it out of train.lora_targets")
    names = {name.removeprefix("model.") for name in linear if part_of(name) in targets}
    patterns = {re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(name)) for name in names}
    return rf"(.*\.)?({'|'.join(sorted(patterns))})"
