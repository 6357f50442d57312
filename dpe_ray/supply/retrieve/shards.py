"""A set in parts: each part ranks its own documents, the rankings are merged."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from dpe_ray.supply.retrieve.bm25 import total
from dpe_ray.supply.retrieve.dense import DenseIndex, Vector, Vectors
from dpe_ray.supply.retrieve.ranking import Hit, Ranker, merge
from dpe_ray.supply.retrieve.sparse import SparseIndex

Q = TypeVar("Q")


class IndexParts(Protocol):
    """Indexes the parts of a set, wherever they are to live. Parts may be read lazily."""

    async def words(self, parts: Iterable[Mapping[str, str]]) -> Ranker[str]:
        """By BM25, texts by id; scores are those of the whole set."""
        ...

    async def vectors(self, parts: Iterable[Vectors]) -> Ranker[Vector]:
        """As `DenseIndex`."""
        ...


class PartsHere:
    """IndexParts in this process."""

    async def words(self, parts: Iterable[Mapping[str, str]]) -> Ranker[str]:
        """As `IndexParts.words`."""
        indexes = [SparseIndex(part) for part in parts]
        whole = total(index.statistics() for index in indexes)
        for index in indexes:
            index.weigh(whole)
        return ShardedIndex(indexes)

    async def vectors(self, parts: Iterable[Vectors]) -> Ranker[Vector]:
        """As `IndexParts.vectors`."""
        return ShardedIndex([DenseIndex(*part) for part in parts])


class ShardedIndex(Generic[Q]):
    """Parts of one set behind one call; equal to the undivided index when the parts score by its statistics."""

    def __init__(self, shards: Sequence[Ranker[Q]]) -> None:
        self.shards = tuple(shards)

    async def rank(self, queries: Sequence[Q], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`; every shard answers every query."""
        answers = await asyncio.gather(*[shard.rank(queries, limit) for shard in self.shards])
        return [merge(rankings, limit) for rankings in zip(*answers, strict=True)]


def split(documents: Mapping[str, str], shards: int) -> list[dict[str, str]]:
    """Deal documents out to parts of nearly equal size."""
    ids = sorted(documents)
    return [{id_: documents[id_] for id_ in ids[i::shards]} for i in range(shards)]
