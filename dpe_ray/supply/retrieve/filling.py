"""Which of the ranked documents are taken: exact budgets per cell, no document twice.

A query stands for one error. Each way of filling only decides whose turn it is; taking, refusing and counting is the
desk's. With a larger budget every query goes at least as deep, so what a smaller budget takes, a larger one takes too.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dpe_ray.supply.retrieve.ranking import Hit


@dataclass(frozen=True)
class Query:
    """What one error asks for."""

    cell: str
    """The `category/skill` that a document counts for when this query takes it."""
    text: str


class Desk:
    """Where queries take documents, each from the top of its own ranking."""

    def __init__(
        self,
        queries: Sequence[Query],
        rankings: Sequence[Sequence[Hit]],
        wanted: Mapping[str, int],
        admit: Callable[[str, str], bool],
    ) -> None:
        """Open the desk.

        Args:
            queries: one per error.
            rankings: one per query.
            wanted: documents to take per cell.
            admit: asked once per document, with the cell that proposes it; False refuses it for all cells.
        """
        self.queries, self.rankings = queries, rankings
        self._wanted, self._admit = wanted, admit
        self._at = [0] * len(queries)
        self._proposed: set[str] = set()
        self.taken: Counter[str] = Counter()
        """Documents per cell."""
        self.dry: set[int] = set()
        """Queries that wanted more than their ranking holds."""

    def wants(self, query: int) -> bool:
        """Whether the query's cell has room and its ranking goes on; notes where it does not go on."""
        if self.taken[self.queries[query].cell] >= self._wanted.get(self.queries[query].cell, 0):
            return False
        if self._at[query] == len(self.rankings[query]):
            self.dry.add(query)
            return False
        return True

    def head(self, query: int) -> Hit:
        """The document that comes next, taken by others or not."""
        return self.rankings[query][self._at[query]]

    def propose(self, query: int) -> bool:
        """Try the next document; False when it was taken or refused before, or is refused now."""
        document, cell = self.head(query)[0], self.queries[query].cell
        self._at[query] += 1
        if document in self._proposed:
            return False
        self._proposed.add(document)
        admitted = self._admit(document, cell)
        self.taken[cell] += admitted
        return admitted


Filling = Callable[[Desk], None]


def round_robin(desk: Desk) -> None:
    """In each turn every query takes its best document that nobody took: fair to errors with few documents."""
    waiting = list(range(len(desk.queries)))
    while waiting:
        waiting = [query for query in waiting if _take_best(desk, query)]


def fixed_k(desk: Desk, k: int) -> None:
    """Every query takes what is new among its first `k`, and no more (arXiv 2412.15652 as written: top-K per error)."""
    for _ in range(k):
        for query in range(len(desk.queries)):
            if desk.wants(query):
                desk.propose(query)


def score_pool(desk: Desk) -> None:
    """The best score of all queries comes first, ties by document id."""
    heads = [_priority(desk, query) for query in range(len(desk.queries)) if desk.wants(query)]
    heapq.heapify(heads)
    while heads:
        *_, query = heapq.heappop(heads)
        if desk.wants(query):
            desk.propose(query)
            if desk.wants(query):
                heapq.heappush(heads, _priority(desk, query))


def _take_best(desk: Desk, query: int) -> bool:
    while desk.wants(query):
        if desk.propose(query):
            return True
    return False


def _priority(desk: Desk, query: int) -> tuple[float, str, int]:
    document, score = desk.head(query)
    return -score, document, query
