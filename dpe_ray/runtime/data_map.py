"""The row mapper of a cluster: one Ray Data pipeline of autoscaling async actors per call.

Rows cross the border pickled, so that they keep their types; many small blocks keep every actor busy. A pipeline
carries the numbers of rows, `row_feed` the rows.
"""

import asyncio
import logging
import pickle
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from dpe_ray.errors import ClusterError, DpeError
from dpe_ray.ports import MapSpec, Row
from dpe_ray.runtime.daemon import in_daemon
from dpe_ray.runtime.owner import owner
from dpe_ray.runtime.row_feed import Feeder, RowFeed
from dpe_ray.runtime.serve_route import last_line

log = logging.getLogger(__name__)

BATCHES_PER_ACTOR = 4
"""Batches that fill an actor: more and smaller ones keep a slow row from holding back its neighbours."""
CALLS_PER_ACTOR = BATCHES_PER_ACTOR + 2
"""Batches in an actor. Those beyond its places have their rows at hand: a place that gets free is taken at once."""
_QUEUED_PER_ACTOR = 2 * CALLS_PER_ACTOR
"""Batches that an actor runs or has waiting."""
_LARGEST_BATCH = 16
_CLOSING_S = 10.0
"""How long a closed iterator waits for its pipeline; one that hangs ends with the process."""


class RowWorker:
    """Shell of a mapped function inside an actor."""

    def __init__(self, spec: MapSpec, feed: Any, map_id: str) -> None:
        self._spec, self._feed, self._map_id = spec, feed, map_id
        self._work: Any = None
        self._places = asyncio.Semaphore(spec.concurrency)

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Map the rows of one batch of numbers."""
        numbers = [int(number) for number in batch["id"]]
        rows = await self._feed.get.remote(self._map_id, numbers)
        there = [(number, row) for number, row in zip(numbers, rows, strict=True) if row is not None]
        results = await asyncio.gather(*[self._result(row) for _, row in there])
        return {"id": [number for number, _ in there], "row": [pickle.dumps(result) for result in results]}

    async def _result(self, row: bytes) -> Row | DpeError:
        async with self._places:
            return await self._mapped(pickle.loads(row))

    async def _mapped(self, row: Row) -> Row | DpeError:
        """Map one row; an error travels as a value, since Ray's wrappers lose what it was.

        The function is built for the first row, in the actor's event loop, and its errors travel in the same way.
        """
        try:
            self._work = self._work or self._spec.factory(self._spec.config)
            result: Row = await self._work(row)
        except DpeError as error:
            return error
        except Exception as error:  # recording border: the driver raises it
            log.exception("%s: a worker broke", self._spec.name)
            told = " ".join(f"{type(error).__name__}: {error}".split())
            return ClusterError(f"{self._spec.name}: a worker broke: {told}; see the Ray logs of this session")
        return result


@dataclass(frozen=True)
class DataMapper:
    """RowMapper on Ray Data."""

    num_cpus: float = 0.25
    """CPUs that one worker reserves; it mostly waits for endpoints."""

    async def map(self, spec: MapSpec, rows: Iterable[Row]) -> AsyncIterator[Row]:
        """Yield results as blocks finish, unordered. Closing the iterator ends the pipeline.

        Rows are read in a thread of their own, at most two times ahead of what the most workers can hold. Raises what
        reading them raises, the DpeError of a worker or of its factory, or ClusterError for what else broke a worker.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Row | BaseException | None]()
        batch = _batch_size(spec)
        ahead = 2 * spec.workers[1] * _QUEUED_PER_ACTOR * batch
        feeder = Feeder(self._feed, secrets.token_hex(4), rows, ahead, batch)

        def read() -> None:
            try:
                feeder.run()
            except Exception as error:  # recording border: the caller raises it in its own thread
                loop.call_soon_threadsafe(queue.put_nowait, error)

        def pump() -> None:
            try:
                for row in self._results(spec, feeder, batch):
                    loop.call_soon_threadsafe(queue.put_nowait, row)
            except Exception as error:  # recording border: the caller raises it in its own thread
                loop.call_soon_threadsafe(queue.put_nowait, error)
            else:
                loop.call_soon_threadsafe(queue.put_nowait, None)

        threads = [asyncio.create_task(in_daemon(work)) for work in (read, pump)]
        patience = _CLOSING_S
        try:
            while (result := await queue.get()) is not None:
                if isinstance(result, DpeError):
                    raise result
                if isinstance(result, BaseException):
                    raise ClusterError(f"{spec.name}: the pipeline broke: {last_line(result)}") from result
                yield result
        except asyncio.CancelledError:
            patience = 0.0  # an interrupt: nobody wants the rows that are under way
            raise
        finally:
            feeder.close()
            await asyncio.wait(threads, timeout=patience)

    @cached_property
    def _feed(self) -> Any:
        # every number in flight may wait there at once
        return owner(RowFeed, max_concurrency=100_000).remote()

    def _results(self, spec: MapSpec, feeder: Feeder, batch: int) -> Iterator[Row | DpeError]:
        for numbers in feeder.pipelines():
            blocks = -(-len(numbers) // batch)
            dataset = ray.data.from_items([{"id": n} for n in numbers], override_num_blocks=blocks).map_batches(
                RowWorker,
                fn_constructor_args=(spec, self._feed, feeder.map_id),
                batch_size=batch,
                compute=ActorPoolStrategy(
                    min_size=min(spec.workers[0], blocks),
                    max_size=spec.workers[1],
                    max_tasks_in_flight_per_actor=_QUEUED_PER_ACTOR,
                    max_concurrent_calls_per_actor=CALLS_PER_ACTOR,
                ),
                num_cpus=self.num_cpus,
                resources=spec.labels or None,
            )
            for mapped in dataset.iter_batches(batch_size=None, prefetch_batches=0):
                if feeder.closed:
                    return
                feeder.finish([int(number) for number in mapped.get("id", ())])
                for row in mapped.get("row", ()):
                    yield pickle.loads(row)
                if feeder.done():
                    return


def _batch_size(spec: MapSpec) -> int:
    return max(1, min(_LARGEST_BATCH, spec.concurrency // BATCHES_PER_ACTOR))
