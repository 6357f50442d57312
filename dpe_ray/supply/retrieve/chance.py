"""The ranker of a control: it reads nothing, so what it finds is a sample of the support set at random."""

from collections.abc import Iterable, Sequence

import numpy as np

from dpe_ray.seeds import child_seed
from dpe_ray.supply.retrieve.ranking import Hit


class ChanceRanker:
    """Ranks every document for every query, in an order that only seed and query decide."""

    def __init__(self, ids: Iterable[str], seed: int) -> None:
        self._ids, self._seed = sorted(ids), seed

    async def rank(self, queries: Sequence[str], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`. Scores fall from 1 to 1/N over all N documents; costs O(N) per query."""
        return [self._order(query)[:limit] for query in queries]

    def _order(self, query: str) -> list[Hit]:
        count = len(self._ids)
        order = np.random.default_rng(child_seed(self._seed, "chance", query)).permutation(count)
        return [(self._ids[place], 1.0 - rank / count) for rank, place in enumerate(order.tolist())]
