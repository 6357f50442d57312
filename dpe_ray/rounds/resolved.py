"""When a run directory may go on under another configuration: where the change cannot reach a result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dpe_ray.config import RunConfig

OPERATIONAL = (
    "models.*.base_url",
    "models.*.api_key_env",
    "models.*.concurrency",
    "models.*.timeout_s",
    "models.*.retries",
    "models.*.price.*",
    "models.*.replicas.*",
    "models.*.num_cpus",
    "models.*.num_gpus",
    "models.*.options.device",
    "answer.concurrency",
    "supply.workers.*",
    "train.num_cpus",
    "train.num_gpus",
    "budget.*",
    "tracking.*",
    "runtime.http_port",
    "runtime.torch_threads",
    "runtime.object_store_mb",
)
"""Keys that say where and how fast a run goes, and how far, not what it asks, keeps and learns."""


@dataclass(frozen=True)
class Change:
    """One key that differs."""

    key: str
    """Dotted, as for `--set`."""
    was: Any
    now: Any

    @property
    def is_operational(self) -> bool:
        """Whether results stay comparable across it."""
        return any(_covers(pattern.split("."), self.key.split(".")) for pattern in OPERATIONAL)

    def __str__(self) -> str:
        return f"{self.key} was {self.was!r}, is {self.now!r}"


def completed(old: Mapping[str, Any]) -> Mapping[str, Any]:
    """A resolved configuration of an earlier version, with today's defaults for the keys that it did not know."""
    try:
        return RunConfig.model_validate(old).model_dump(mode="json")
    except ValidationError:  # it has keys or values that there are no more: they differ, and are told
        return old


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Every leaf that differs between two resolved configurations, by key; one that is missing counts as None."""
    was, now = _flat(old), _flat(new)
    keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    return [Change(key, was.get(key), now.get(key)) for key in keys]


def _covers(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """A star stands for one name, as the last one for all below it."""
    fits = all(part in ("*", name) for part, name in zip(pattern, key, strict=False))
    return fits and (len(pattern) == len(key) or (pattern[-1] == "*" and len(pattern) < len(key)))


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {
        key: leaf for name, child in tree.items() for key, leaf in _flat(child, f"{prefix}.{name}".strip(".")).items()
    }
