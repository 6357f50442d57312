"""Which device an engine computes on: one that its process has reserved, and none where it has reserved none."""

from typing import Any

from dpe_ray.config import ModelConfig, TrainConfig

PLACED = ("transformers",)
"""Engines that are told their device; vLLM takes what it sees."""
EngineArguments = tuple[str, str, dict[str, Any]]
"""As `create_engine` takes them."""


def in_replica(engine: EngineArguments, num_gpus: float) -> EngineArguments:
    """Compute on what a replica reserves: Ray shows it no other GPUs, so it is the first that it sees."""
    name, source, options = engine
    if name not in PLACED:
        return engine
    return name, source, {"device": "cuda" if num_gpus else "cpu", **options}


def beside_trainer(engine: EngineArguments, device: str) -> EngineArguments:
    """Compute on `device`, that of a training worker, unless the options say that it is none of the GPUs.

    It is named with its number: which device is the current one belongs to a thread, and engines have several.
    """
    name, source, options = engine
    stated = str(options.get("device", ""))
    if name not in PLACED or (stated and not stated.startswith("cuda")):
        return engine
    return name, source, {**options, "device": device}


def contradiction(model: ModelConfig, train: TrainConfig | None = None) -> str:
    """Tell where the stated device and the reserved GPUs do not fit, `train` for the student; empty where they do."""
    device = str(model.options.get("device", "")) if model.engine in PLACED else ""
    if device.startswith("cuda") and not model.num_gpus:
        return f"{device}, and num_gpus is 0, so no GPU is kept for it; set num_gpus: 1"
    if device.startswith("cuda:") and not (train and train.rollouts == "local"):
        return f"{device}, and a replica sees the GPUs alone that it reserves; write cuda, or leave it out"
    if device == "cpu" and model.num_gpus:
        return f"cpu, and num_gpus: {model.num_gpus:g} keeps GPUs from others; leave one of them out"
    if device.startswith("cuda") and train and train.rollouts == "local" and not train.use_gpu:
        return f"{device}, and train.rollouts: local puts it beside a trainer without a GPU; set train.use_gpu: true"
    return ""
