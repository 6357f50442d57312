"""An index in parts, each in an actor of its own, for sets that one worker cannot hold."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError

from dpe_ray.errors import ClusterError
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.supply.retrieve.bm25 import total
from dpe_ray.supply.retrieve.dense import DenseIndex, Vector, Vectors
from dpe_ray.supply.retrieve.ranking import Hit
from dpe_ray.supply.retrieve.shards import ShardedIndex
from dpe_ray.supply.retrieve.sparse import SparseIndex

SHARD_CPUS = 0.5
"""CPUs that one shard reserves: it works only while supply asks."""

Q = TypeVar("Q")


@dataclass(frozen=True)
class ActorShard(Generic[Q]):
    """One part of a set, as a Ranker; the actor ends with the last handle."""

    actor: Any

    async def rank(self, queries: Sequence[Q], limit: int) -> list[list[Hit]]:
        """As `Ranker.rank`. Raises ClusterError when the actor is gone."""
        return await _answer(self.actor.rank.remote(queries, limit))


class ActorParts:
    """IndexParts over the nodes of a cluster, one actor per part."""

    async def words(self, parts: Iterable[Mapping[str, str]]) -> ShardedIndex[str]:
        """As `IndexParts.words`; one part at a time is held here.

        Two passes: every actor counts the words of its part, then all weigh them by the sum. Raises ClusterError.
        """
        actors = [_start(SparseIndex, part) for part in parts]
        whole = total(await asyncio.gather(*[_answer(actor.statistics.remote()) for actor in actors]))
        shared = ray.put(whole)
        await asyncio.gather(*[_answer(actor.weigh.remote(shared)) for actor in actors])
        return ShardedIndex([ActorShard(actor) for actor in actors])

    async def vectors(self, parts: Iterable[Vectors]) -> ShardedIndex[Vector]:
        """As `IndexParts.vectors`."""
        return ShardedIndex([ActorShard(_start(DenseIndex, *part)) for part in parts])


def _start(index: type, *args: object) -> Any:
    # spread: parts that sit on one machine would save nothing
    return ray.remote(num_cpus=SHARD_CPUS, scheduling_strategy="SPREAD")(index).remote(*args)


async def _answer(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except RayError as error:
        raise ClusterError(f"retrieval index: a shard broke ({last_line(error)}); see Ray's logs") from error
