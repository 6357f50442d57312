"""The supplier that finds samples in a support set: once that is labelled no model is asked, cheap gates refuse."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from dpe_ray.errors import BudgetExceeded, PoolError
from dpe_ray.supply.gates import check_seen, sample_key
from dpe_ray.supply.retrieve.filling import Desk, Filling, Query, round_robin
from dpe_ray.supply.retrieve.ranking import Hit, Ranker
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import CellPlan, DataPlan, Provenance, Rejection, Sample

Gate = Callable[[Sample], str | None]
"""Says why a sample is refused, or None."""

Support = tuple[Ranker[str], Mapping[str, Sample]]
"""The index of a support set, which ranks ids of samples by their skills in words, and the samples by those ids; the
mapping may read them one by one from elsewhere."""

FIRST_HITS = 256
"""Hits asked per query; one that runs dry is asked again for `DEEPER` times as many."""
DEEPER = 4


class RetrieveSupplier:
    """Fills cells with support samples whose skills answer to the cells' queries."""

    name = "retrieve"

    def __init__(
        self,
        support: Callable[[], Awaitable[Support]],
        *,
        round: int,
        gates: Mapping[str, Gate],
        forbidden: AbstractSet[str] = frozenset(),
        filling: Filling = round_robin,
        same_category: bool = False,
        queries: Callable[[CellPlan], Sequence[str]] | None = None,
    ) -> None:
        """Bind support set and gates.

        Args:
            support: labels and indexes the support set, which costs teacher calls; asked when cells are to be filled.
            round: written into the provenance.
            gates: checks by the name under which their refusals are counted, in the order in which they are asked; a
                sample that is proposed is shown to them once per call of `fill`.
            forbidden: sha256 of images and ids of samples that are never given, such as those of the validation set.
            filling: whose turn it is.
            same_category: whether a cell takes samples of its own category only.
            queries: what is looked for on behalf of a cell; `queries_of` when left out.
        """
        self._support, self._round, self._filling = support, round, filling
        self._same_category, self._queries = same_category, queries or queries_of
        self._gates: dict[str, Gate] = {"forbidden": _Forbidden(forbidden), **gates}

    async def fill(self, plan: DataPlan, wanted: Mapping[str, int], seen: AbstractSet[str]) -> Supplied:
        """As `Supplier.fill`. Raises what support set and ranker raise, but that a spent budget closes it with nothing.

        A sample counts for the cell whose query took it. Missing are the samples that no ranking held.
        """
        try:
            ranker, samples = await self._support()
        except BudgetExceeded:
            return Supplied((), (), 0, dict(wanted), "budget", 0)
        cells = [cell for cell in plan.cells if wanted.get(cell.cell, 0) > 0]
        queries = [Query(cell.cell, text) for cell in cells for text in self._queries(cell)]
        categories = {cell.cell: cell.category for cell in cells} if self._same_category else {}
        found, checks = _Found(ranker), _Checks(self._gates)
        await found.ask({query.text for query in queries}, FIRST_HITS)
        while True:
            slots = _Slots(samples, self._round, checks, seen)
            rankings = [_of_category(found.hits[q.text], categories.get(q.cell, ""), samples) for q in queries]
            desk = Desk(queries, rankings, wanted, slots.admit)
            await asyncio.to_thread(self._filling, desk)
            dry = {queries[query].text for query in desk.dry} & found.cut
            if not dry:
                return slots.supplied(
                    {cell: n - desk.taken[cell] for cell, n in wanted.items() if desk.taken[cell] < n}
                )
            await found.ask(dry, DEEPER * max(len(found.hits[text]) for text in dry))


def queries_of(cell: CellPlan) -> tuple[str, ...]:
    """The missing skills of a cell in words; without any, its own skill and instruction."""
    return cell.queries or (f"{cell.skill.replace('_', ' ')} {cell.instruction}".strip(),)


def _of_category(hits: Sequence[Hit], category: str, samples: Mapping[str, Sample]) -> Sequence[Hit]:
    """Hits among one category; all of them when it is empty."""
    return [hit for hit in hits if samples[hit[0]].category == category] if category else hits


class _Found:
    """Rankings so far, by query text: many errors lack the same skill."""

    def __init__(self, ranker: Ranker[str]) -> None:
        self._ranker = ranker
        self.hits: dict[str, list[Hit]] = {}
        self.cut: set[str] = set()
        """Queries whose rankings go on."""

    async def ask(self, texts: Collection[str], limit: int) -> None:
        asked = sorted(texts)
        for text, hits in zip(asked, await self._ranker.rank(asked, limit), strict=True):
            self.hits[text] = hits
            (self.cut.add if len(hits) == limit else self.cut.discard)(text)


class _Checks:
    """The gates, with a memory: a deeper ranking is walked from its beginning, and a gate may read images."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self._gates = gates
        self._known: dict[str, tuple[str, str] | None] = {}

    def __call__(self, sample: Sample) -> tuple[str, str] | None:
        """Name of the gate that refuses, and its reason."""
        if sample.id not in self._known:
            told = ((name, _told(gate, sample)) for name, gate in self._gates.items())
            self._known[sample.id] = next(((name, reason) for name, reason in told if reason), None)
        return self._known[sample.id]


class _Slots:
    """What is proposed in one walk: every proposal is a slot, and ends as a sample or a rejection."""

    def __init__(self, samples: Mapping[str, Sample], round: int, checks: _Checks, seen: AbstractSet[str]) -> None:
        self._support, self._round, self._checks, self._keys = samples, round, checks, set(seen)
        self._samples: list[Sample] = []
        self._rejections: list[Rejection] = []

    def admit(self, document: str, cell: str) -> bool:
        origin = Provenance("retrieved", self._round, cell)
        sample = replace(self._support[document], provenance=origin)
        refused = self._checks(sample)
        if not refused and (reason := check_seen(sample, self._keys)):
            refused = "duplicate", reason
        if refused:
            slot = len(self._samples) + len(self._rejections)
            self._rejections.append(Rejection(slot, *refused, cell, sample))
            return False
        self._keys.add(sample_key(sample))
        self._samples.append(sample)
        return True

    def supplied(self, shortfall: dict[str, int]) -> Supplied:
        return Supplied(
            samples=tuple(self._samples),
            rejections=tuple(self._rejections),
            proposed=len(self._samples) + len(self._rejections),
            shortfall=shortfall,
            closed_by="exhausted" if shortfall else "quota",
            calls=0,
        )


class _Forbidden:
    def __init__(self, ids: AbstractSet[str]) -> None:
        self._ids = ids

    def __call__(self, sample: Sample) -> str | None:
        if sample.id in self._ids:
            return "the sample itself is held out"
        held = [image.sha256 for image in sample.images if image.sha256 in self._ids]
        return f"image {held[0][:12]} is held out" if held else None


def _told(gate: Gate, sample: Sample) -> str | None:
    try:
        return gate(sample)
    except PoolError as error:
        return str(error)
