"""What every index answers, in one order: best score first, ties by document id."""

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Hit = tuple[str, float]
"""Document id and score."""
Q_contra = TypeVar("Q_contra", contravariant=True)

DECIMALS = 9
"""Scores are compared after rounding: sums in another order differ by 1e-15 and must not break a tie."""


class Ranker(Protocol[Q_contra]):
    """An index, or several behind one call. Queries are texts, or vectors where an index knows nothing else."""

    async def rank(self, queries: Sequence[Q_contra], limit: int) -> list[list[Hit]]:
        """One ranking per query, of at most `limit` >= 1 documents; what does not match at all is left out.

        A smaller limit gives the beginning of what a larger one gives.
        """
        ...


def best(ids: Sequence[str], places: NDArray[np.integer], scores: NDArray[np.floating], limit: int) -> list[Hit]:
    """Rank candidates.

    Args:
        ids: sorted ids of all documents of the index.
        places: [C] candidates, as positions in `ids`.
        scores: [C]
        limit: at least 1.
    """
    rounded = np.round(scores, DECIMALS)
    if limit < len(rounded):
        kept = rounded >= np.partition(rounded, -limit)[-limit]
        places, rounded = places[kept], rounded[kept]
    order = np.lexsort((places, -rounded))[:limit]
    return [(ids[place], score) for place, score in zip(places[order], rounded[order].tolist(), strict=True)]


def merge(rankings: Iterable[Sequence[Hit]], limit: int) -> list[Hit]:
    """Merge rankings of distinct documents into one."""
    return list(islice(heapq.merge(*rankings, key=lambda hit: (-hit[1], hit[0])), limit))
