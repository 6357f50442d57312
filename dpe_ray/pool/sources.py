"""From what a configuration names to what can be read: `builtin:NAME` is made by the package that registered it."""

from importlib.metadata import entry_points
from pathlib import Path

from dpe_ray.errors import PoolError

GROUP = "dpe_ray.sources"
PREFIX = "builtin:"


def resolve(source: str, folder: Path, seed: int) -> str:
    """Return any path, glob or URL as it is; have `builtin:NAME` made under `folder`, once, and return its path.

    A source is an entry point of group `dpe_ray.sources`, called as `function(folder, seed) -> Path`.
    Raises PoolError for a name that nobody registered.
    """
    if not source.startswith(PREFIX):
        return source
    name = source.removeprefix(PREFIX)
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        raise PoolError(f"source {source}: no such built-in; there are {', '.join(sorted(known)) or 'none'}")
    return str(known[name].load()(folder, seed))
