"""A set in parts: each part ranks its own documents, the rankings are merged."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from dpe_ray.supply.retrieve.ranking import Hit, Ranker, merge

Q = TypeVar("Q")


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
