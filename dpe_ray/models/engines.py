"""Engines by name: the entry points `dpe_ray.engines` of everything that is installed."""

from importlib.metadata import entry_points
from typing import Any

from dpe_ray.errors import ConfigError
from dpe_ray.ports import Engine

GROUP = "dpe_ray.engines"


def engine_names() -> tuple[str, ...]:
    """Names of all installed engines, sorted; none is loaded."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def check_options(name: str, options: dict[str, Any]) -> None:
    """Ask an installed engine whether it takes these options, where it says so by a static `check_options`.

    Imports the engine, which may take seconds, and loads no weights. Raises ConfigError for a wrong option.
    """
    (engine,) = (point.load() for point in entry_points(group=GROUP, name=name))
    if check := getattr(engine, "check_options", None):
        check(options)


def create_engine(name: str, source: str, options: dict[str, Any]) -> Engine:
    """Load an engine and its weights. Raises ConfigError for an unknown name; may take minutes and gigabytes."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(f"models.*.engine: no engine {name!r}; installed are {', '.join(sorted(found)) or 'none'}")
    engine: Engine = found[name].load()(source, options)
    return engine
