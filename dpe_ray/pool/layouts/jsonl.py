"""JSONL: one path, URL or object per line; paths are relative to the file."""

import json
from collections.abc import Iterator
from random import Random

import fsspec

from dpe_ray.pool.blocks import Block
from dpe_ray.pool.layouts.fields import PoolRow, row_of
from dpe_ray.pool.readers import one_line
from dpe_ray.seeds import child_seed

MOST_LINE = 1 << 20
"""Bytes of a line."""


def jsonl_rows(block: Block, skip: int, bare: bool) -> Iterator[PoolRow]:
    """Rows that begin between `block.start` and `block.stop`, shuffled: lists are often sorted by kind."""
    lines = list(_lines(block))
    Random(child_seed(0, "jsonl", block.file, block.start)).shuffle(lines)
    for offset, line in lines[skip:]:
        yield _row(f"{block.file}@{offset}", line, block.file, bare)


def _lines(block: Block) -> Iterator[tuple[int, bytes]]:
    """Offset and line; a line that is too long is cut, and then is no JSON."""
    with fsspec.open(block.file, "rb") as file:
        if block.start:
            file.seek(block.start - 1)
            file.readline()  # the block before has the line that began there
        while (offset := file.tell()) < block.stop and (line := file.readline(MOST_LINE)):
            if line.strip():
                yield offset, line
            while not line.endswith(b"\n") and (line := file.readline(MOST_LINE)):
                pass


def _row(where: str, line: bytes, file: str, bare: bool) -> PoolRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return PoolRow(where, error=one_line(error))
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict):
        return PoolRow(where, error="is no path, URL or JSON object")
    return row_of(where, value, file, bare=bare)
