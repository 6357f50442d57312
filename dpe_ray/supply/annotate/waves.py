"""Annotation in waves, for runs that must repeat: what a slot sees of the others is what the waves before it brought.

The book is asked and told in slot order, between two waves; so arrival decides nothing.
"""

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from dpe_ray.ports import MapSpec, Place, QuotaBook, QuotaState, Row, RowMapper
from dpe_ray.supply.annotate.rows import SlotRows
from dpe_ray.supply.annotate.slot import LATE, SlotJob
from dpe_ray.supply.gates import sample_key
from dpe_ray.types import Candidate, Rejection

LARGEST = 4
"""A wave has at most this x `MapSpec.concurrency` slots, however many workers there are: their number may change."""


@dataclass(frozen=True)
class Promises:
    """The `SlotBook` of one wave: what its slots were told when it began. It counts nothing, so every worker has it."""

    cells: Mapping[int, tuple[str, ...]]
    """Slot to the cells that it was offered."""
    places: Mapping[int, Place]
    """Slot to its place, where slots begin with a cell."""
    before: QuotaState

    async def begin(self, slot: int) -> tuple[str, ...]:
        """As `SlotBook.begin`."""
        return self.cells.get(slot, ())

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `SlotBook.reserve`: a cell that was offered has room for every slot of the wave, until it ends."""
        return cell in self.cells.get(slot, ())

    async def assign(self, slot: int) -> Place | None:
        """As `SlotBook.assign`."""
        return self.places.get(slot)

    async def commit(self, slot: int, key: str, calls: int) -> str:
        """Refuse nothing: `_told` does, when the wave is in."""
        return ""

    async def release(self, slot: int, calls: int) -> None:
        """Count nothing: `_told` does, when the wave is in."""

    async def close(self) -> None:
        """Close nothing: `_told` does, when the wave is in."""

    async def state(self) -> QuotaState:
        """As before the wave."""
        return self.before


async def fill_in_waves(mapper: RowMapper, spec: MapSpec, rows: SlotRows, book: QuotaBook) -> None:
    """Run waves of slots until the book is closed or the rows end.

    A wave is over with its slowest slot. `spec.config` is a SlotJob.
    """
    job: SlotJob = spec.config
    while (wave := await _begun(book, rows, job, LARGEST * spec.concurrency))[0]:
        sent, promises = wave
        spec = replace(spec, config=replace(job, book=promises))
        ended: dict[int, Row] = {}
        async with aclosing(cast("AsyncGenerator[Row, None]", mapper.map(spec, sent))) as arriving:
            async for row in arriving:
                ended.setdefault(row["slot"], row)
        for slot in sorted(ended):
            rows.take(await _told(book, ended[slot]))


async def _begun(book: QuotaBook, rows: SlotRows, job: SlotJob, most: int) -> tuple[list[Row], Promises]:
    """The rows of the next wave, and what the book offers them."""
    before = await book.state()
    sent: list[Row] = []
    cells: dict[int, tuple[str, ...]] = {}
    places: dict[int, Place] = {}
    for slot in range(rows.sent, rows.sent + wave_size(before, most)):
        if job.config.tools is None:
            if not (offered := await book.begin(slot)):
                break
            cells[slot] = offered
        else:
            if (place := await book.assign(slot)) is None:
                break
            places[slot] = place
        if (row := next(rows, None)) is None:
            await book.release(slot, 0)
            break
        sent.append(row)
    return sent, Promises(cells, places, before)


def wave_size(state: QuotaState, most: int) -> int:
    """Slots that fill what is missing if they yield as those before them, a half at first; `most` at the most."""
    accepted = sum(state.accepted.values())
    missing = sum(state.quotas.values()) - accepted
    return min(most, math.ceil(missing * (state.ended + 2) / (accepted + 1)))


async def _told(book: QuotaBook, row: Row) -> Row:
    """Tell the book how a slot ended; a sample that it has no room for becomes a rejection."""
    slot, outcome, calls = row["slot"], row["outcome"], row["calls"]
    if isinstance(outcome, Rejection):
        if outcome.cell:
            await book.reserve(outcome.cell, slot)
        await book.release(slot, calls)
        if outcome.gate == "budget":
            await book.close()
        return row
    candidate = cast("Candidate", outcome)
    cell = candidate.sample.provenance.cell
    if not await book.reserve(cell, slot):
        await book.release(slot, calls)
        gate, reason = "no_open_cell", f"{cell} was closed meanwhile"
    elif gate := await book.commit(slot, sample_key(candidate.sample), calls):
        reason = LATE[gate]
    else:
        return row
    return {**row, "outcome": Rejection(slot, gate, reason, cell, candidate.sample)}
