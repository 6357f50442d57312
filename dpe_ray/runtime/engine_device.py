"""Which device an engine computes on: one that its process has reserved, and none where it has reserved none."""

from typing import Any

from dpe_ray.config import ModelConfig

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


def contradiction(model: ModelConfig) -> str:
    """Tell where the stated device and the reserved GPUs do not fit; empty where they do."""
    device = str(model.options.get("device", "")) if model.engine in PLACED else ""
    if device.startswith("cuda") and not model.num_gpus:
        return f"{device}, and num_gpus is 0, so no GPU is kept for it; set num_gpus: 1"
    if device == "cpu" and model.num_gpus:
        return f"cpu, and num_gpus: {model.num_gpus:g} keeps GPUs from others; leave one of them out"
    return ""
