"""Engines by name: the entry points `dpe_ray.engines` of everything that is installed."""

from importlib.metadata import entry_points
from typing import Any

from dpe_ray.errors import ConfigError
from dpe_ray.ports import Engine

GROUP = "dpe_ray.engines"


def engine_names() -> tuple[str, ...]:
    """Names of all installed engines, sorted; none is loaded."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def create_engine(name: str, source: str, options: dict[str, Any]) -> Engine:
    """Load an engine and its weights. Raises ConfigError for an unknown name; may take minutes and gigabytes."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(f"models.*.engine: no engine {name!r}; installed are {', '.join(sorted(found)) or 'none'}")
    engine: Engine = found[name].load()(source, options)
    return engine
