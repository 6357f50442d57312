"""In which order a pool is read, and how a later reading goes on behind an earlier one.

Every pass reads all blocks in an order that a seed decides, `LANES` of them side by side, one row of each in turn, so
that files sorted by kind are mixed. A block's place in a pass depends on its own name below the source alone: a pool
may grow or shrink between two readings, and still no row comes twice in a pass; what was added behind the cursor's back
comes in the next.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dpe_ray.pool.blocks import Block
from dpe_ray.pool.layouts.fields import PoolRow
from dpe_ray.pool.rows import read_block

LANES = 16
"""Blocks that are read side by side."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reading goes on. Numbers only: it goes into JSON as it is."""

    rows: int = 0
    """Read since the beginning, over all passes."""
    lap: int = 0
    """Passes that are over."""
    behind: int = -1
    """Place of the last block that was begun, 0 to 2**53 - 1."""
    open: tuple[tuple[int, int], ...] = ()
    """Place of, and rows read from, each block that was begun and not ended; the next in turn first."""


BEGINNING = Cursor()


class Turn(NamedTuple):
    """A row, and the cursor behind it."""

    row: PoolRow
    cursor: Cursor


def read_lap(blocks: Sequence[Block], seed: int, cursor: Cursor = BEGINNING) -> Iterator[Turn]:
    """Read on to the end of the pass that the cursor is in."""
    waiting, lanes = _resumed(blocks, seed, cursor)
    rows, behind = cursor.rows, cursor.behind
    while True:
        while len(lanes) < LANES and waiting:
            behind, block = waiting.popleft()
            lanes.append(_Lane(behind, read_block(block), 0))
        if not lanes:
            return
        lane = lanes.popleft()
        row = next(lane.rows, None)
        if row is None:
            continue
        rows += 1
        if not row.last:
            lanes.append(_Lane(lane.place, lane.rows, lane.read + 1))
        yield Turn(row, Cursor(rows, cursor.lap, behind, tuple((lane.place, lane.read) for lane in lanes)))


class _Lane(NamedTuple):
    place: int
    rows: Iterator[PoolRow]
    read: int


def _resumed(blocks: Sequence[Block], seed: int, cursor: Cursor) -> tuple[deque[tuple[int, Block]], deque[_Lane]]:
    """Blocks that are still to begin, in order, and those that are open; one that is gone is left out."""
    placed = sorted(((_place(block, seed, cursor.lap), block) for block in blocks), key=lambda pair: pair[0])
    begun = dict(cursor.open)
    at = {place: block for place, block in placed if place in begun}
    waiting = deque(pair for pair in placed if pair[0] > cursor.behind)
    lanes = deque(_Lane(place, read_block(at[place], read), read) for place, read in cursor.open if place in at)
    return waiting, lanes


def _place(block: Block, seed: int, lap: int) -> int:
    text = f"{seed}/{lap}/{block.kind}/{block.group}/{block.start}/{block.name}"
    # 53 bits: JSON numbers are doubles to many readers
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 11
