"""From YAML, preset and `--set` to a checked run; whatever is wrong is one line that names file and key."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dpe_ray.config.run import RunConfig
from dpe_ray.errors import ConfigError

TOLD = 5
"""Mistakes of one file that are told at once."""


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read YAML, lay it over its preset, apply `a.b=c` overrides, check all. Raises ConfigError with one line."""
    tree, preset = _read(path, overrides)
    return parse_config(_merge(preset, tree), str(path))


def written_keys(path: str | Path, overrides: tuple[str, ...] = ()) -> frozenset[str]:
    """The dotted keys that YAML and overrides state otherwise than the preset. Raises ConfigError."""
    tree, preset = _read(path, overrides)
    stated, known = _flat(tree), _flat(preset)
    return frozenset(key for key, value in stated.items() if key not in known or known[key] != value)


def _read(path: str | Path, overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was written, and the preset under it."""
    tree = _read_yaml(Path(path))
    for override in overrides:
        _set(tree, override)
    name = tree.get("preset")
    return tree, _read_preset(str(name)) if name else {}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        leaves |= _flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return leaves


def parse_config(tree: dict[str, Any], where: str) -> RunConfig:
    """Check a resolved tree. Raises ConfigError naming file, key and what would be right."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        unknown_first = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        told = [_told(one) for one in unknown_first]
        more = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
        raise ConfigError(f"{where}: {'; '.join(told[:TOLD])}{more}") from None


def _told(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{key}: {_unknown(error['loc'])}"
    value = "" if error["type"] in ("missing", "value_error") else f" (got {error['input']!r})"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}{value}"


def _unknown(place: tuple[int | str, ...]) -> str:
    """What a key that nobody knows may have been meant to be."""
    part: Any = RunConfig
    for key in place[:-1]:
        kind = part.model_fields[key].annotation if hasattr(part, "model_fields") and key in part.model_fields else part
        parts = [kind, *get_args(kind)]
        part = next((each for each in parts if hasattr(each, "model_fields")), kind)
    known = sorted(getattr(part, "model_fields", ()))
    near = get_close_matches(str(place[-1]), known, 1)
    if near:
        return f"no such key; did you mean {near[0]}?"
    return f"no such key; there are {', '.join(known)}" if known else "no such key"


class _OneOfEach(yaml.SafeLoader):
    """Refuses a mapping that states a key twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.YAMLError(f"{twice[0]} stands twice, line {node.start_mark.line + 1} and below")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _OneOfEach)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a run YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, see jobs/micro.yaml")
    return tree


def _read_preset(name: str) -> dict[str, Any]:
    folder = files("dpe_ray") / "presets"
    names = sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
    if name not in names:
        raise ConfigError(f"preset: no preset {name!r}; there are {', '.join(names)}")
    tree: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return tree


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key or not value:
        raise ConfigError(f"--set {override}: write it as a.b=value, null for none and '' for an empty text")
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, it has no keys below it")
        tree = child
    try:
        tree[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {value!r} is no YAML value") from None


WHOLE = ("reward",)
"""Mappings that replace the preset's: its weights would go on beside those that were written."""


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in WHOLE
        merged[key] = _merge(merged[key], value) if both else value
    return merged
