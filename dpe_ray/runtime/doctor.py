"""What this machine has and what a run would miss."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dpe_ray.config import ModelConfig, RunConfig, keys_without_effect, load_config, written_keys
from dpe_ray.errors import ConfigError, DpeError
from dpe_ray.models.engines import check_options, engine_names
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool
from dpe_ray.pool.sources import PREFIX
from dpe_ray.runtime import session
from dpe_ray.runtime.finding import Finding
from dpe_ray.runtime.preflight import is_path, look

NEEDED = ("ray", "torch", "transformers", "peft", "openai", "pyarrow", "pillow", "rank-bm25", "pydantic")
DISK_GB = 5


def examine(yaml: Path | None = None, overrides: Sequence[str] = ()) -> list[Finding]:
    """Look at interpreter, packages, cores, accelerators and disk; with a YAML also at all that its run needs."""
    findings = [*_interpreter(), *_packages(), *_hardware()]
    return [*findings, *_run(yaml, overrides)] if yaml else findings


def _interpreter() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", f"{version} (3.11 or newer is needed)", sys.version_info >= (3, 11))


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed: pip install dpe-ray", ok=False)


def _hardware() -> Iterator[Finding]:
    yield Finding("cpu cores", str(os.cpu_count()))
    free = shutil.disk_usage(".").free / 1e9
    yield Finding("free disk here", f"{free:.0f} GB", free >= DISK_GB)
    yield Finding("gpus", ", ".join(_gpus()) or "none: engine transformers on CPU is for small models")


def _gpus() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _run(yaml: Path, overrides: Sequence[str]) -> Iterator[Finding]:
    try:
        config = load_config(yaml, tuple(overrides))
        idle = keys_without_effect(config, written_keys(yaml, tuple(overrides)))
    except ConfigError as error:
        yield Finding(str(yaml), str(error).removeprefix(f"{yaml}: "), ok=False)
        return
    joined = session.joins()
    yield Finding(str(yaml), f"{config.rounds} rounds, models {', '.join(config.models)}")
    yield from (Finding(str(yaml), line, doubtful=True) for line in idle)
    yield from (found := list(look(config, joined=joined)))
    pool = config.pool
    if pool and not pool.source.startswith(PREFIX) and all(f.ok for f in found if f.what == "pool.source"):
        yield _pool(pool.source)
    if joined:
        yield Finding("$RAY_ADDRESS", "is set: keys, engines, weights and room are the cluster's, and not looked at")
    else:
        yield from _room(config)
    for name, model in config.models.items():
        if model.base_url:
            yield _endpoint(f"models.{name}", model)
        elif not joined:
            yield from _engine(f"models.{name}", model)


def _pool(source: str) -> Finding:
    pool = ImagePool(source, ImageStore(Path()))  # a check stores nothing
    try:
        pool.check()
    except DpeError as error:
        return Finding("pool", str(error), ok=False)
    return Finding("pool", f"{len(pool.blocks)} files or parts of files, and the pictures looked at can be read")


def _room(config: RunConfig) -> Iterator[Finding]:
    asked = session.asked_by(config)
    there = {"CPU": float(os.cpu_count() or 1), "GPU": float(len(_gpus()))}
    short = session.lacking(asked, there)
    yield from (Finding("room", message.replace("the cluster", "this machine"), ok=False) for message in short)
    if not short:
        cpus, gpus = session.total(asked)
        yield Finding("room", f"the run asks for {cpus:g} CPUs and {gpus:g} GPUs")


def _engine(where: str, model: ModelConfig) -> Iterator[Finding]:
    if model.engine not in engine_names():
        return
    try:
        check_options(model.engine, model.options)
    except ConfigError as error:
        yield Finding(f"{where}.options", str(error), ok=False)
    if model.engine == "transformers" and not (model.source.startswith(PREFIX) or is_path(model.source)):
        yield _weights(f"{where}.source", model)


def _weights(where: str, model: ModelConfig) -> Finding:
    import httpx2
    import huggingface_hub

    source, revision = model.source, model.revision or None
    if Path(source).is_dir():
        return Finding(where, f"{source} is there")
    try:
        if isinstance(huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision), str):
            return Finding(where, f"{source} was downloaded before")
        huggingface_hub.HfApi().model_info(source, revision=revision, timeout=10)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        reason = " ".join(str(error).split())[:200]
        told = f"{source} is no directory, was not downloaded, and the Hub does not give it ({reason})"
        return Finding(where, told, ok=False)
    return Finding(where, f"{source} will be downloaded from the Hub")


def _endpoint(where: str, model: ModelConfig) -> Finding:
    try:
        return Finding(where, f"{model.base_url} offers {_offered(model)}")
    except DpeError as error:
        return Finding(where, str(error), ok=False)


def _offered(model: ModelConfig) -> str:
    import openai

    key = os.environ.get(model.api_key_env, "") or "none"
    try:
        with openai.OpenAI(base_url=model.base_url, api_key=key, timeout=10, max_retries=0) as client:
            return ", ".join(m.id for m in client.models.list().data[:5])
    except openai.OpenAIError as error:
        raise ConfigError(f"{model.base_url}: {error}; is the endpoint up, the key right?") from error
