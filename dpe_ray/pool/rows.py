"""The rows of a block, read lazily: one image each with what its source says of it, or why there is none."""

import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from dpe_ray.errors import PoolError
from dpe_ray.models.images import read_bytes
from dpe_ray.pool.blocks import Block
from dpe_ray.pool.layouts.fields import PoolRow
from dpe_ray.pool.layouts.jsonl import jsonl_rows
from dpe_ray.pool.layouts.tables import arrow_rows, parquet_rows
from dpe_ray.pool.layouts.webdataset import tar_rows
from dpe_ray.pool.readers import one_line

Reader = Callable[[Block, int, bool], Iterator[PoolRow]]


def read_block(block: Block, skip: int = 0, *, bare: bool = False) -> Iterator[PoolRow]:
    """Give the rows of a block in its order, the first `skip` left out unread; `bare` leaves the images unread.

    Holds one row, or one batch of a table. A file that breaks off ends with a row that says so.
    """
    where = f"{block.file}#{block.group}" if block.kind == "parquet" else block.file
    try:
        yield from _READERS[block.kind](block, skip, bare)
    except (PoolError, OSError, EOFError, ValueError, pa.ArrowException, tarfile.TarError, zlib.error) as error:
        yield PoolRow(where, error=one_line(error), last=True)


def _file_rows(block: Block, skip: int, bare: bool) -> Iterator[PoolRow]:
    if skip:
        return
    row = PoolRow(block.file, last=True)
    yield row if bare else replace(row, data=read_bytes(block.file))


_READERS: dict[str, Reader] = {
    "file": _file_rows,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
    "tar": tar_rows,
    "jsonl": jsonl_rows,
}
