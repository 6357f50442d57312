"""Parquet, and Arrow files as Hugging Face's `save_to_disk` leaves them: a column of bytes, `{bytes, path}` or paths.

Both are read without the `datasets` package: its image columns are plain structs of bytes and path.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa

from dpe_ray.pool.blocks import IMAGE_KEYS, Block
from dpe_ray.pool.layouts.fields import TEXT_KEYS, PoolRow, row_of
from dpe_ray.pool.readers import open_parquet, pick_key

BATCH = 16
"""Rows of a parquet file in memory at once."""
_FILE_SIGN = b"ARROW1"
"""Of Arrow's file format; what begins otherwise is its stream format."""


def parquet_rows(block: Block, skip: int, bare: bool) -> Iterator[PoolRow]:
    """Rows `block.start` to `block.stop` of one row group; what lies before is decoded and dropped."""
    with open_parquet(block.file) as table:
        columns = _columns(table.schema_arrow.names, block.file, bare)
        if not columns:  # nothing but the rows' number is asked for
            yield from (PoolRow(f"{block.file}#{block.group}.{at}") for at in range(block.start + skip, block.stop))
            return
        batches = table.iter_batches(BATCH, row_groups=[block.group], columns=columns)
        for at, fields in _numbered(batches, block.start + skip, block.stop):
            yield row_of(f"{block.file}#{block.group}.{at}", fields, block.file, bare=bare)


def arrow_rows(block: Block, skip: int, bare: bool) -> Iterator[PoolRow]:
    """All rows of one file; a local one is mapped, not read."""
    with _batches(block.file) as (names, batches):
        columns = _columns(names, block.file, bare)
        chosen = (batch.select(columns) for batch in batches)
        for at, fields in _numbered(chosen, skip, None):
            yield row_of(f"{block.file}#{at}", fields, block.file, bare=bare)


def _columns(names: list[str], file: str, bare: bool) -> list[str]:
    image = pick_key(names, IMAGE_KEYS, file)
    return [*([] if bare else [image]), *(name for name in names if name in TEXT_KEYS and name != image)]


def _numbered(batches: Iterable[Any], first: int, behind: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    at = 0
    for batch in batches:
        stop = at + batch.num_rows if behind is None else min(at + batch.num_rows, behind)
        for row in range(max(at, first), stop):
            yield row, batch.slice(row - at, 1).to_pylist()[0]
        at += batch.num_rows
        if behind is not None and at >= behind:
            return


@contextmanager
def _batches(file: str) -> Iterator[tuple[list[str], Iterable[Any]]]:
    source = fsspec.open(file, "rb").open() if "://" in file else pa.memory_map(file)
    with source:
        whole = source.read(len(_FILE_SIGN)) == _FILE_SIGN
        source.seek(0)
        reader = pa.ipc.open_file(source) if whole else pa.ipc.open_stream(source)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader
        yield reader.schema.names, batches
