"""Files and the images that they name, wherever they lie: local, or behind any fsspec URL."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from dpe_ray.errors import PoolError
from dpe_ray.models.images import read_bytes

BUFFER = 1 << 20
"""Bytes of a column read at once; without it pyarrow reads a whole row group of images."""


GLOB = "*?["
"""What makes a path a pattern."""


def list_files(source: str, suffixes: Sequence[str]) -> list[str]:
    """List the files of a folder, glob or single path, sorted; hidden ones are left out. Raises PoolError."""
    try:
        fs, path = fsspec.core.url_to_fs(source)
        if any(sign in path for sign in GLOB):
            paths = fs.glob(path)
        elif fs.isdir(path):
            paths = fs.find(path)
        else:
            return [source] if fs.exists(path) else _missing(source)
    except (OSError, ValueError, ImportError) as error:
        raise PoolError(f"{source}: cannot be read ({error}); check path, protocol and rights") from error
    names = [p for p in paths if p.lower().endswith(tuple(suffixes)) and not _hidden(p, path)]
    return [fs.unstrip_protocol(p) if "://" in source else p for p in sorted(names)]


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a parquet file from anywhere. Raises PoolError when it is none."""
    try:
        return pq.ParquetFile(fsspec.open(path, "rb").open(), buffer_size=BUFFER)
    except (OSError, pa.ArrowException) as error:
        raise PoolError(f"{path}: is no readable parquet file ({one_line(error)})") from error


def cell_bytes(value: Any, beside: str) -> bytes:
    """Turn what a table holds for an image into bytes: bytes, `{"bytes", "path"}`, or a path relative to `beside`.

    Raises PoolError for anything else and for paths that cannot be read.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value:
        return read_bytes(value if "://" in value or value.startswith("/") else str(_parent(beside) + value))
    raise PoolError(f"{beside}: an image is {type(value).__name__}, not bytes, path or URL")


class Beside:
    """Images that a file names by a path from one folder: its own, or one that lies in it.

    Which one is settled by the first image, so that equal names in two folders are never mixed up.
    """

    def __init__(self, file: str) -> None:
        self._folder = _parent(file)
        self._root = ""

    def cell(self, *names: str) -> dict[str, Any]:
        """What a table would hold for the image: its bytes and its name. Raises PoolError when none is there."""
        return {"bytes": self.read(*names), "path": names[0]}

    def read(self, *names: str) -> bytes:
        """Read the first of the names that is there. Raises PoolError when none is."""
        for root in [self._root] if self._root else self._folders():
            for name in names:
                absolute = "://" in name or name.startswith("/")
                data = _found(name if absolute else root + name)
                if data is not None:
                    self._root = self._root if absolute else root
                    return data
        raise PoolError(f"image {names[0]} lies neither in {self._root or self._folder} nor in a folder in it")

    def _folders(self) -> Iterator[str]:
        yield self._folder or "./"
        fs, path = fsspec.core.url_to_fs(self._folder or ".")
        folders = sorted(str(entry["name"]) for entry in fs.ls(path, detail=True) if entry["type"] == "directory")
        yield from ((fs.unstrip_protocol(name) if "://" in self._folder else name) + "/" for name in folders)


def pick_key(names: Sequence[str], wanted: Sequence[str], where: str) -> str:
    """First of the wanted names that is there. Raises PoolError that lists what there is."""
    for name in wanted:
        if name in names:
            return name
    raise PoolError(f"{where}: has no column {' or '.join(wanted[:4])}; it has {', '.join(names)[:200] or 'none'}")


def _found(name: str) -> bytes | None:
    try:
        return read_bytes(name)
    except PoolError:
        return None


def _missing(source: str) -> list[str]:
    raise PoolError(f"{source}: does not exist; give a folder, glob, parquet, arrow, tar or JSONL")


def _hidden(path: str, root: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path.removeprefix(root)).parts)


def _parent(path: str) -> str:
    head, slash, _ = path.rpartition("/")
    return head + slash


def one_line(error: BaseException) -> str:
    """What an error says, at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
