"""The parts of a pool: found from names and footers alone, each read from its beginning to its end.

A source is a folder (searched to the bottom), a glob, one image, or one or many files of parquet, Arrow (as Hugging
Face's `save_to_disk` writes), WebDataset tar or JSONL; local or behind any fsspec URL. A folder is read by its first
kind in this order: parquet, Arrow, tar, JSONL, images.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.pool.readers import GLOB, list_files, open_parquet, pick_key

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
KINDS = {
    "parquet": (".parquet",),
    "arrow": (".arrow",),
    "tar": (".tar", ".tar.gz", ".tgz"),
    "jsonl": (".jsonl",),
    "file": IMAGES,
}
"""Kind to the ends of its files' names."""
IMAGE_KEYS = ("image", "bytes", "path", "url", "uri", "image_path", "file_name")
"""Columns or keys in which an image is looked for, first found counts."""
ROWS = 256
"""Least rows of a block of a row group."""
PARTS = 8
"""Most blocks of a row group: to begin in its middle, what lies before must be read."""
BYTES = 1 << 20
"""Of a block of JSONL."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a source."""

    file: str
    kind: str
    """A key of `KINDS`."""
    group: int = 0
    """Row group of a parquet file."""
    start: int = 0
    """First row in the group; first byte in JSONL."""
    stop: int = 0
    """Behind its last row or byte."""
    name: str = ""
    """The file's path below the source: a pool that moves, or is reached by another URL, stays the same."""


def find_blocks(source: str) -> list[Block]:
    """List the blocks of a source, in a fixed order.

    A file that cannot be opened is a block, whose one row will say why. Raises PoolError when the source does not
    exist, holds no file of these kinds, or none that can be opened.
    """
    blocks: list[Block] = []
    errors: list[PoolError] = []
    files = _files(source)
    for path, kind in files:
        try:
            blocks += _blocks(path, kind)
        except PoolError as error:
            errors.append(error)
            blocks.append(Block(path, kind))
    if errors and len(errors) == len(files):
        raise errors[0]
    if not blocks:
        raise PoolError(f"{source}: holds no image; give a folder, glob, parquet, arrow, tar or JSONL with images")
    fs, place = fsspec.core.url_to_fs(source)
    return [replace(block, name=_below(_fixed(place), fs._strip_protocol(block.file))) for block in blocks]


def _fixed(place: str) -> str:
    """The part of a source that is no pattern."""
    signs = [place.index(sign) for sign in GLOB if sign in place]
    return place[: min(signs)].rpartition("/")[0] if signs else place.rstrip("/")


def _below(folder: str, file: str) -> str:
    return file.removeprefix(folder).lstrip("/") or PurePosixPath(file).name


def _files(source: str) -> list[tuple[str, str]]:
    """Path and kind. A single path of no known end is an image."""
    paths = list_files(source, [end for ends in KINDS.values() for end in ends])
    if len(paths) == 1:
        return [(paths[0], next((kind for kind in KINDS if _is(paths[0], kind)), "file"))]
    for kind in KINDS:
        if same := [path for path in paths if _is(path, kind)]:
            return [(path, kind) for path in same]
    return []


def _is(path: str, kind: str) -> bool:
    # Hugging Face's library leaves results of transformations beside the data, under this name
    leftover = kind == "arrow" and PurePosixPath(path).name.startswith("cache-")
    return path.lower().endswith(KINDS[kind]) and not leftover


def _blocks(path: str, kind: str) -> Iterator[Block]:
    if kind == "parquet":
        with open_parquet(path) as table:
            pick_key(table.schema_arrow.names, IMAGE_KEYS, path)
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                step = max(ROWS, -(-rows // PARTS))
                for start in range(0, rows, step):
                    yield Block(path, kind, group, start, min(rows, start + step))
    elif kind == "jsonl":
        fs, place = fsspec.core.url_to_fs(path)
        size = fs.size(place)
        for start in range(0, size, BYTES):
            yield Block(path, kind, 0, start, min(size, start + BYTES))
    else:
        yield Block(path, kind)
