"""The supply stage: streams slots until the quotas are filled, then decides in slot order what is taken."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import cast

from dpe_ray.ports import MapSpec, QuotaBook, QuotaState, Row, RowMapper
from dpe_ray.supply.annotate.slot import SlotConfig, annotate_slot
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Candidate, DataPlan, ImageRef, Rejection, Sample

Outcome = Candidate | Rejection


@dataclass
class _Arrived:
    """Results so far, by slot: rows come unordered and may come twice."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    closed: bool = False

    def rows(self, images: Iterable[ImageRef | Rejection]) -> Iterator[Row]:
        """One row per image until supply is closed; images that could not be read end their slot at once."""
        for slot, image in enumerate(images):
            if self.closed:
                return
            if isinstance(image, Rejection):
                self.outcomes[slot] = replace(image, slot=slot)
            else:
                yield {"slot": slot, "image": image}

    def take(self, row: Row) -> None:
        """Keep one result per slot; a sample counts more than the refusal of another run."""
        slot, outcome = row["slot"], row["outcome"]
        if slot not in self.outcomes or isinstance(outcome, Candidate):
            self.outcomes[slot] = outcome
        self.calls[slot] = max(row["calls"], self.calls.get(slot, 0))

    def all_of(self, state: QuotaState) -> bool:
        """Whether supply is over and every sample that the book counts is here: it knows of them first."""
        here = sum(isinstance(outcome, Candidate) for outcome in self.outcomes.values())
        return state.over and here >= sum(state.accepted.values())


async def supply(
    plan: DataPlan,
    images: Iterable[ImageRef | Rejection],
    book: QuotaBook,
    slot_config: SlotConfig,
    mapper: RowMapper,
    *,
    workers: tuple[int, int] = (1, 1),
    concurrency: int = 16,
    seen: AbstractSet[str] = frozenset(),
    labels: Mapping[str, float] | None = None,
) -> Supplied:
    """Fill the plan's quotas, one image per slot.

    Args:
        plan: the quotas and the instruction of each cell.
        images: the pool in the order in which it is used up; a Rejection stands for an image that cannot be used.
        book: the owner of the quotas, started with those of `plan`.
        slot_config: the agents; book, instructions and `seen` are put in here.
        mapper: runs the slots.
        workers: least and most workers.
        concurrency: slots in flight per worker.
        seen: `gates.sample_key` of samples that earlier rounds accepted.
        labels: custom resources of a worker.

    Closes when no cell is open, no slot in flight can still be committed and every committed sample has arrived. A
    shortfall is reported, never padded.
    """
    instructions = {cell.cell: cell.instruction for cell in plan.cells}
    config = replace(slot_config, book=book, instructions=instructions, seen=frozenset(seen))
    spec = MapSpec(annotate_slot, config, workers, concurrency, "supply", dict(labels or {}))
    arrived = _Arrived()
    state = await book.state()
    results = cast("AsyncGenerator[Row, None]", mapper.map(spec, arrived.rows(images)))
    async with aclosing(results):
        while not arrived.all_of(state) and (row := await anext(results, None)) is not None:
            arrived.take(row)
            state = await book.state()
            arrived.closed = bool(state.closed_by)
    samples, rejections = settle(arrived.outcomes, plan.quotas, seen)
    assert len(samples) + len(rejections) == len(arrived.outcomes), "a slot was lost"
    accepted = Counter(sample.provenance.cell for sample in samples)
    return Supplied(
        samples=samples,
        rejections=rejections,
        proposed=len(arrived.outcomes),
        shortfall={cell: quota - accepted[cell] for cell, quota in plan.quotas.items() if accepted[cell] < quota},
        closed_by=state.closed_by or "pool",
        calls=sum(arrived.calls.values()),
    )


def settle(
    outcomes: Mapping[int, Outcome], quotas: Mapping[str, int], seen: AbstractSet[str]
) -> tuple[tuple[Sample, ...], tuple[Rejection, ...]]:
    """Decide in slot order, so that arrival does not matter: no duplicate, and no cell above its quota."""
    samples: list[Sample] = []
    rejections: list[Rejection] = []
    keys, accepted = set(seen), Counter[str]()
    for slot in sorted(outcomes):
        outcome = outcomes[slot]
        if isinstance(outcome, Rejection):
            rejections.append(outcome)
            continue
        sample, cell = outcome.sample, outcome.sample.provenance.cell
        if (key := sample_key(sample)) in keys:
            reason = "the same question about this image is there already"
            rejections.append(Rejection(slot, "duplicate", reason, cell, sample))
        elif accepted[cell] >= quotas.get(cell, 0):
            rejections.append(Rejection(slot, "quota", "earlier slots filled the cell", cell, sample))
        else:
            keys.add(key)
            accepted[cell] += 1
            samples.append(sample)
    return tuple(samples), tuple(rejections)
