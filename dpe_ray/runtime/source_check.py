"""Pool, sets and suites of a config: that they are there, and that first rows of the labelled ones can be read."""

import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path

import fsspec

from dpe_ray.config import RunConfig
from dpe_ray.errors import PoolError, StoreError
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import stream_samples
from dpe_ray.pool.sources import GROUP, PREFIX
from dpe_ray.runtime.finding import Finding, meant
from dpe_ray.types import Rejection

ROWS = 4
"""Of each labelled set that are read."""


def look_at_sources(config: RunConfig) -> Iterator[Finding]:
    """Look at each; of what lies behind a URL only whether it can be opened."""
    for key, source in _sources(config):
        found = _source(key, source)
        yield _first_rows(key, source) if found.ok and key != "pool.source" and _is_local(source) else found


def _sources(config: RunConfig) -> Iterator[tuple[str, str]]:
    if config.pool:
        yield "pool.source", config.pool.source
    if config.support:
        yield "support.source", config.support.source
    yield "probe.source", config.probe.source
    yield "decision.suite", config.decision.suite
    yield from ((f"final.{index}.suite", suite.suite) for index, suite in enumerate(config.final))


def _source(key: str, source: str) -> Finding:
    if source.startswith(PREFIX):
        return builtin(key, source)
    try:
        for protocol in filter(None, _protocols(source)):
            fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        return Finding(key, f"{source}: {error}", ok=False)
    if not _is_local(source):
        return Finding(key, f"{source}: is a URL that can be opened; what it holds is seen when a run begins")
    if _exists(source) or _exists(source.rpartition("#")[0]):  # a labelled source may end in #SPLIT
        return Finding(key, f"{source} is there")
    wanted = "give a folder, glob, parquet file or JSONL, absolute or relative to"
    return Finding(key, f"{source}: does not exist; {wanted} {Path.cwd()}", ok=False)


def _is_local(source: str) -> bool:
    """Whether a source lies in a file system of this machine; a built-in one does not yet."""
    known = (None, "file", "local")
    return not source.startswith(PREFIX) and all(protocol in known for protocol in _protocols(source))


def _protocols(source: str) -> list[str | None]:
    return [fsspec.core.split_protocol(part)[0] for part in source.split("::")]


def _first_rows(key: str, source: str) -> Finding:
    """Read the first rows of a labelled set as a run will, pictures decoded, into a folder that is thrown away.

    Of a set that is learned from the first sound ones: its bad rows are left out.
    """
    refused: list[Rejection] | None = [] if key == "support.source" else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            first = next(rows := stream_samples(source, ImageStore(Path(folder)), refused=refused))
            looked = 1 + sum(1 for _ in islice(rows, ROWS - 1))
    except (PoolError, StoreError) as error:
        return Finding(key, str(error), ok=False)
    bad = f"; {len(refused)} rows before them cannot be used, such as {refused[0].reason}" if refused else ""
    kind = f"{first.answer.kind} of {len(first.options)}" if first.options else str(first.answer.kind)
    image = first.images[0]
    told = f"{source}: {looked} rows can be read, the first a {kind} with {image.width} x {image.height} pixels{bad}"
    return Finding(key, told, doubtful=bool(refused))


def _exists(source: str) -> bool:
    if not source:
        return False
    fs, path = fsspec.core.url_to_fs(source)
    return bool(fs.glob(path)) if any(sign in path for sign in "*?[") else bool(fs.exists(path))


def builtin(key: str, source: str) -> Finding:
    """Look whether a `builtin:NAME` is installed."""
    name, known = source.removeprefix(PREFIX), sorted({point.name for point in entry_points(group=GROUP)})
    if name in known:
        return Finding(key, f"{source} is installed")
    return Finding(key, f"{source}: no such built-in{meant(name, known)}; there are {', '.join(known)}", ok=False)
