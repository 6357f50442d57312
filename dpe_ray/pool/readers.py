"""Unlabelled images wherever they lie: every image has an address that costs no bytes, and is read when it is its turn.

A source is a folder (searched to the bottom), a glob, one image, a parquet file or folder with a column of bytes or
paths, or JSONL with one path or URL per line; local or behind any fsspec URL.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from dpe_ray.errors import PoolError
from dpe_ray.models.images import read_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
IMAGE_KEYS = ("image", "bytes", "path", "url", "uri", "image_path", "file_name")
"""Columns or keys in which an image is looked for, first found counts."""
NAME_KEYS = ("name", "id", "path", "file_name", "url")


@dataclass(frozen=True, slots=True)
class Address:
    """Where one image is."""

    file: str
    kind: str
    """file, parquet or jsonl."""
    group: int = 0
    """Row group of a parquet file."""
    row: int = 0
    """Row within its group; byte offset of its line in JSONL."""


@dataclass(frozen=True)
class Found:
    """One image as it was read, or why it was not."""

    name: str
    data: bytes = b""
    error: str = ""


def find_images(source: str) -> list[Address]:
    """Address every image of a source, in a fixed order, from names and footers alone.

    Raises PoolError when the source does not exist or holds no image.
    """
    addresses = [address for path in list_files(source) for address in _addresses(path)]
    if not addresses:
        raise PoolError(f"{source}: holds no image; give a folder, glob, parquet or JSONL with images")
    return addresses


def load_images(addresses: Sequence[Address]) -> Iterator[Found]:
    """Read the images in the order of their addresses; a row group that several share is read once.

    An image that cannot be read gives its reason. Holds the bytes of all `addresses`: pass some tens.
    """
    groups: dict[tuple[str, int], list[Address]] = {}
    for address in addresses:
        if address.kind == "parquet":
            groups.setdefault((address.file, address.group), []).append(address)
    rows = {address: found for key, shared in groups.items() for address, found in _load_group(*key, shared)}
    for address in addresses:
        yield rows[address] if address.kind == "parquet" else _load_one(address)


def list_files(source: str, suffixes: Sequence[str] = (*SUFFIXES, ".parquet", ".jsonl")) -> list[str]:
    """List the files of a folder, glob or single path, sorted; hidden ones are left out. Raises PoolError."""
    try:
        fs, path = fsspec.core.url_to_fs(source)
        if any(sign in path for sign in "*?["):
            paths = fs.glob(path)
        elif fs.isdir(path):
            paths = fs.find(path)
        else:
            return [source] if fs.exists(path) else _missing(source)
    except (OSError, ValueError, ImportError) as error:
        raise PoolError(f"{source}: cannot be read ({error}); check path, protocol and rights") from error
    names = [p for p in paths if p.lower().endswith(tuple(suffixes)) and not _hidden(p, path)]
    tables = [p for p in names if p.endswith(".parquet")]
    return [fs.unstrip_protocol(p) if "://" in source else p for p in sorted(tables or names)]


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a parquet file from anywhere. Raises PoolError when it is none."""
    try:
        return pq.ParquetFile(fsspec.open(path, "rb").open())
    except (OSError, pa.ArrowException) as error:
        raise PoolError(f"{path}: is no readable parquet file ({_line(error)})") from error


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

    def read(self, *names: str) -> bytes:
        """Read the first of the names that is there. Raises PoolError when none is."""
        for root in [self._root] if self._root else self._folders():
            for name in names:
                absolute = "://" in name or name.startswith("/")
                found = _found(name, name if absolute else root + name, "")
                if not found.error:
                    self._root = self._root if absolute else root
                    return found.data
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


def _addresses(path: str) -> Iterator[Address]:
    if path.endswith(".parquet"):
        with open_parquet(path) as table:
            pick_key(table.schema_arrow.names, IMAGE_KEYS, path)
            for group in range(table.num_row_groups):
                for row in range(table.metadata.row_group(group).num_rows):
                    yield Address(path, "parquet", group, row)
    elif path.endswith(".jsonl"):
        with fsspec.open(path, "rb") as file:
            offset = 0
            for line in file:
                if line.strip():
                    yield Address(path, "jsonl", row=offset)
                offset += len(line)
    else:
        yield Address(path, "file")


def _load_group(file: str, group: int, addresses: Sequence[Address]) -> Iterator[tuple[Address, Found]]:
    try:
        with open_parquet(file) as table:
            names = table.schema_arrow.names
            image = pick_key(names, IMAGE_KEYS, file)
            label = next((key for key in NAME_KEYS if key in names), image)
            block = table.read_row_group(group, columns=list({image, label}))
            rows = block.take([a.row for a in addresses]).to_pylist()
    except (PoolError, OSError, pa.ArrowException) as error:
        yield from ((a, Found(f"{file}#{a.group}.{a.row}", error=_line(error))) for a in addresses)
        return
    for address, row in zip(addresses, rows, strict=True):
        text = row[label]
        yield address, _found(text if isinstance(text, str) else f"{file}#{group}.{address.row}", row[image], file)


def _load_one(address: Address) -> Found:
    if address.kind == "file":
        return _found(address.file, address.file, "")
    name = f"{address.file}@{address.row}"
    try:
        with fsspec.open(address.file, "rb") as file:
            file.seek(address.row)
            line = json.loads(file.readline())
        value = line if isinstance(line, str) else line[pick_key(list(line), IMAGE_KEYS, name)]
    except (OSError, ValueError, TypeError, PoolError) as error:
        return Found(name, error=_line(error))
    return _found(value if isinstance(value, str) else name, value, address.file)


def _found(name: str, value: Any, beside: str) -> Found:
    try:
        return Found(name, cell_bytes(value, beside))
    except PoolError as error:
        return Found(name, error=_line(error))


def _missing(source: str) -> list[str]:
    raise PoolError(f"{source}: does not exist; give a folder, glob, parquet file or JSONL")


def _hidden(path: str, root: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path.removeprefix(root)).parts)


def _parent(path: str) -> str:
    head, slash, _ = path.rpartition("/")
    return head + slash


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
