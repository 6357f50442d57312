"""Rankings by words and by meaning together: reciprocal-rank fusion (Cormack et al., SIGIR 2009)."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from dpe_ray.supply.retrieve.ranking import DECIMALS, Hit, Ranker

K = 60
"""Of Cormack et al.: how much the first ranks stand out."""
QUERIES_PER_BLOCK = 32
"""Bounds what deep rankings hold in memory: about 100 bytes per hit."""


class HybridRanker:
    """Several rankers behind one call."""

    def __init__(self, rankers: Sequence[Ranker[str]], depth: int = 10_000) -> None:
        """Fuse the first `depth` hits of each ranker: fixed, so that a larger limit only adds to a smaller one."""
        self._rankers, self._depth = tuple(rankers), depth

    async def rank(self, queries: Sequence[str], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`; at most depth x rankers documents per query match."""
        fused: list[list[Hit]] = []
        for start in range(0, len(queries), QUERIES_PER_BLOCK):
            block = queries[start : start + QUERIES_PER_BLOCK]
            lists = await asyncio.gather(*[ranker.rank(block, self._depth) for ranker in self._rankers])
            fused += [fuse(rankings)[:limit] for rankings in zip(*lists, strict=True)]
        return fused


def fuse(rankings: Iterable[Sequence[Hit]]) -> list[Hit]:
    """Order documents by the sum of 1 / (60 + rank) over the rankings that hold them.

    Documents with equal scores share their mean rank: a ranking that cannot tell a thousand documents apart has next to
    no say, where breaking its ties by id would put a chance document beside the other ranking's best.
    """
    scores: dict[str, float] = defaultdict(float)
    for ranking in rankings:
        for id_, rank in _mean_ranks(ranking):
            scores[id_] += 1 / (K + rank)
    return sorted(((id_, round(score, DECIMALS)) for id_, score in scores.items()), key=lambda hit: (-hit[1], hit[0]))


def _mean_ranks(ranking: Sequence[Hit]) -> Iterator[tuple[str, float]]:
    for _, group in groupby(enumerate(ranking, 1), key=lambda ranked: ranked[1][1]):
        equal = list(group)
        rank = (equal[0][0] + equal[-1][0]) / 2
        yield from ((id_, rank) for _, (id_, _) in equal)
