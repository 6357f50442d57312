"""What this machine has and what a run would miss."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpe_ray.config import ModelConfig, load_config
from dpe_ray.errors import ConfigError, DpeError
from dpe_ray.models.engines import engine_names

NEEDED = ("ray", "torch", "transformers", "peft", "openai", "pyarrow", "pillow", "rank-bm25", "pydantic")
EXTRAS = {"vllm": "engine vllm", "deepspeed": "ZeRO training"}
DISK_GB = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool = True


def examine(yaml: Path | None = None) -> list[Finding]:
    """Look at interpreter, packages, cores, accelerators and disk; with a YAML also at its models and keys."""
    findings = [*_interpreter(), *_packages(), *_hardware()]
    return [*findings, *_run(yaml)] if yaml else findings


def _interpreter() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", f"{version} (3.11 or newer is needed)", sys.version_info >= (3, 11))


def _packages() -> Iterator[Finding]:
    for name in (*NEEDED, *EXTRAS):
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            needed = name in NEEDED
            hint = "not installed: pip install dpe-ray" if needed else f"not installed; only needed for {EXTRAS[name]}"
            yield Finding(name, hint, not needed)


def _hardware() -> Iterator[Finding]:
    yield Finding("cpu cores", str(os.cpu_count()))
    free = shutil.disk_usage(".").free / 1e9
    yield Finding("free disk here", f"{free:.0f} GB", free >= DISK_GB)
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("gpus", ", ".join(names) or "none: engine transformers on CPU is for small models")


def _run(yaml: Path) -> Iterator[Finding]:
    try:
        config = load_config(yaml)
    except ConfigError as error:
        yield Finding(str(yaml), str(error), ok=False)
        return
    yield Finding(str(yaml), f"{config.rounds} rounds, models {', '.join(config.models)}")
    for name, model in config.models.items():
        yield from _model(name, model)


def _model(name: str, model: ModelConfig) -> Iterator[Finding]:
    where = f"models.{name}"
    if model.engine:
        known = engine_names()
        yield Finding(where, f"engine {model.engine}; installed: {', '.join(known)}", model.engine in known)
        return
    if model.api_key_env:
        present = bool(os.environ.get(model.api_key_env))
        yield Finding(where, f"${model.api_key_env} is {'set' if present else 'not set'}", present)
    try:
        yield Finding(where, f"{model.base_url} offers {_offered(model)}")
    except DpeError as error:
        yield Finding(where, str(error), ok=False)


def _offered(model: ModelConfig) -> str:
    import openai

    key = os.environ.get(model.api_key_env, "") or "none"
    try:
        with openai.OpenAI(base_url=model.base_url, api_key=key, timeout=10, max_retries=0) as client:
            return ", ".join(m.id for m in client.models.list().data[:5])
    except openai.OpenAIError as error:
        raise ConfigError(f"{model.base_url}: {error}; is the endpoint up, the key right?") from error
