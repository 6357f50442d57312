"""What a config names and this machine must have, looked for before anything heavy starts: no Ray, torch or weights.

`run` raises the first that is missing, `doctor` lists all.
"""

import json
import os
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from dpe_ray.config import ROLES, ModelConfig, RunConfig
from dpe_ray.errors import ConfigError
from dpe_ray.models.engines import engine_names
from dpe_ray.models.prompts import PromptFile
from dpe_ray.models.quantized import require_bitsandbytes
from dpe_ray.pool.sources import PREFIX
from dpe_ray.rounds.ledger import STUDENT
from dpe_ray.runtime.engine_device import contradiction
from dpe_ray.runtime.finding import Finding, meant
from dpe_ray.runtime.source_check import builtin, look_at_sources
from dpe_ray.runtime.vllm_rules import require_here, require_options, require_trainable
from dpe_ray.supply.tools.edit_limits import load_limits
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.train.tracking.trackers import TRACKERS
from dpe_ray.train.user_reward import check_reward

PROMPTED = ("dpe_ray.supply.annotate", "dpe_ray.supply.construct", "dpe_ray.diagnose", "dpe_ray.grading")
"""Packages with prompts."""


def require(config: RunConfig, *, joined: bool) -> None:
    """Raise ConfigError for the first thing that `look` misses."""
    for finding in look(config, joined=joined):
        if not finding.ok:
            raise ConfigError(f"{finding.what}: {finding.found}")


def look(config: RunConfig, *, joined: bool) -> Iterator[Finding]:
    """Look at all files, names and variables of a config, and the first rows of its labelled sets, in about a second.

    What a URL holds is not asked for. `joined`: the run joins a cluster. Keys, engines, prompts and weights are then
    those of its workers, which this process does not see, so they are left out.
    """
    yield from look_at_sources(config)
    if config.taxonomy:
        yield _taxonomy(config.taxonomy)
    if config.tools.edit.limits:
        yield _limits(config.tools.edit.limits)
    if "construct" in config.supply.order:
        yield _programs(config.supply.construct.programs)
    if config.train.method != "sft":
        yield from (_reward(name) for name in config.train.reward if ":" in name)
    for name, model in config.models.items():
        if model.engine and model.source.startswith(PREFIX):
            yield builtin(f"models.{name}.source", model.source)
        if model.engine == "vllm":
            yield _vllm(name, config)
        if model.engine and needs_torchvision(model.source) and not find_spec("torchvision"):
            told = "its processor needs torchvision, which is not installed; pip install 'dpe-ray[qwen]'"
            yield Finding(f"models.{name}.source", told, ok=False)
        if told := contradiction(model, config.train if name == STUDENT else None):
            yield Finding(f"models.{name}.options.device", told, ok=False)
    if not joined:
        yield from _of_workers(config)


def local_folder(folder: Path) -> Path:
    """Make the folder of a run absolute. Raises ConfigError for a URL."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(folder)):
        raise ConfigError(f"--run-dir {folder}: is a URL; give a local directory, or one that all nodes mount")
    return folder.absolute()


def needs_torchvision(source: str) -> bool:
    """Whether a checkpoint's processor is one that imports it; false for what is not a folder here."""
    try:
        kind = json.loads((Path(source) / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    except (OSError, ValueError, AttributeError):
        return False
    return str(kind).startswith("qwen")


def is_path(source: str) -> bool:
    """Whether weights are named by a path for certain; anything else may be a hub id."""
    return source.startswith(("/", "./", "../"))


def _taxonomy(path: str) -> Finding:
    try:
        load_taxonomy(path)
    except ConfigError as error:
        return Finding("taxonomy", str(error).removeprefix("taxonomy "), ok=False)
    return Finding("taxonomy", f"{path} can be read")


def _limits(path: str) -> Finding:
    try:
        load_limits(path)
    except ConfigError as error:
        return Finding("tools.edit.limits", str(error).removeprefix("edit limits "), ok=False)
    return Finding("tools.edit.limits", f"{path} can be read")


def _programs(wanted: tuple[str, ...]) -> Finding:
    """Load them: only then is it known that each can draw, ask and check. They run in this process as in workers."""
    from dpe_ray.supply.construct.registry import PROGRAMS_KEY, load_programs  # with matplotlib and scipy

    try:
        programs = load_programs(wanted)
    except ConfigError as error:
        return Finding(PROGRAMS_KEY, str(error).removeprefix(f"{PROGRAMS_KEY}: "), ok=False)
    categories = sorted({category for program in programs.values() for category in program.categories})
    return Finding(PROGRAMS_KEY, f"{', '.join(programs)} can be loaded; they draw {', '.join(categories)}")


def _reward(address: str) -> Finding:
    """Load it in a process of its own, as training does."""
    try:
        check_reward(address)
    except ConfigError as error:
        return Finding("train.reward", str(error).removeprefix("train.reward: "), ok=False)
    return Finding("train.reward", f"{address} can be loaded")


def _of_workers(config: RunConfig) -> Iterator[Finding]:
    for name, file in config.prompts.items():
        if file:
            yield _prompt(name, file)
    for name in config.tracking.to:
        yield _tracker(name)
    token = config.tools.search.token_env
    if token:
        yield _variable("tools.search.token_env", token, "a token of the image search")
    if config.train.backend.startswith("zero"):
        yield _deepspeed(config.train.backend)
    if config.train.quantize:
        yield _bitsandbytes(config.train.quantize)
    used = {config.model_of(role) for role in ROLES} | {config.supply.retrieve.embedder, config.tools.edit.model}
    for name, model in config.models.items():
        if model.engine:
            yield _engine(f"models.{name}", model)
        elif model.api_key_env and name in used:
            yield _variable(f"models.{name}.api_key_env", model.api_key_env, "the key of this endpoint")


def _tracker(name: str) -> Finding:
    package = TRACKERS[name][0]
    if find_spec(package) is None:
        told = f"{name} needs the package {package}, which is not installed; pip install 'dpe-ray[tracking]'"
        return Finding("tracking.to", told, ok=False)
    return Finding("tracking.to", f"{name} is installed")


def _variable(key: str, name: str, content: str) -> Finding:
    present = bool(os.environ.get(name))
    return Finding(key, f"${name} {'is set' if present else f'is not set; export it with {content}'}", present)


def _deepspeed(backend: str) -> Finding:
    if find_spec("deepspeed"):
        return Finding("train.backend", f"{backend}: deepspeed is installed")
    told = f"{backend} needs DeepSpeed: pip install 'dpe-ray[deepspeed]', or set fsdp2"
    return Finding("train.backend", told, ok=False)


def _bitsandbytes(quantize: str) -> Finding:
    try:
        require_bitsandbytes()
    except ConfigError as error:
        return Finding("train.quantize", str(error).removeprefix("quantize: "), ok=False)
    return Finding("train.quantize", f"{quantize}: bitsandbytes is installed")


def _prompt(name: str, file: str) -> Finding:
    try:
        PromptFile.load(_package_of(name), name, file)
    except ConfigError as error:
        return Finding(f"prompts.{name}", str(error).removeprefix(f"prompt {name}: "), ok=False)
    return Finding(f"prompts.{name}", f"{file} can be used")


def _package_of(name: str) -> str:
    """The package that has a prompt of this name; empty where a role's tasks have several of other names."""
    return next((p for p in PROMPTED if (files(p) / "prompts" / f"{name}.jinja").is_file()), "")


def _engine(where: str, model: ModelConfig) -> Finding:
    known = engine_names()
    if model.engine not in known:
        told = f"engine {model.engine}: no such engine{meant(model.engine, known)}; installed are {', '.join(known)}"
        return Finding(f"{where}.engine", told, ok=False)
    if model.engine == "vllm":
        try:
            require_here(model)
        except ConfigError as error:
            return Finding(where, str(error), ok=False)
    if is_path(model.source) and not Path(model.source).exists():
        return Finding(f"{where}.source", f"{model.source}: does not exist; give a directory or hub id", ok=False)
    return Finding(where, f"engine {model.engine} is installed")


def _vllm(name: str, config: RunConfig) -> Finding:
    where = f"models.{name}"
    try:
        options = require_options(config.models[name])
        if name == STUDENT:
            require_trainable(options, config.train)
    except ConfigError as error:
        return Finding(where, str(error), ok=False)
    return Finding(where, "vLLM serves what this run asks and trains")
