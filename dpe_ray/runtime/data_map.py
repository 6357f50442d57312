"""The row mapper of a cluster: one Ray Data pipeline of autoscaling async actors per call.

Rows cross the border pickled, so that they keep their types; many small blocks keep every actor busy.
"""

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from dpe_ray.errors import ClusterError, DpeError
from dpe_ray.ports import MapSpec, Row
from dpe_ray.runtime.daemon import in_daemon
from dpe_ray.runtime.serve_route import last_line

CALLS_PER_ACTOR = 4
"""Batches in flight per actor: more and smaller batches keep a slow row from holding back its neighbours."""
_CLOSING_S = 10.0
"""How long a closed iterator waits for its pipeline; one that hangs ends with the process."""


class RowWorker:
    """Shell of a mapped function inside an actor."""

    def __init__(self, spec: MapSpec) -> None:
        self._spec = spec
        self._work: Any = None

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Map one batch; the function is built on the first call, inside the actor's event loop."""
        self._work = self._work or self._spec.factory(self._spec.config)
        results = await asyncio.gather(*[self._result(pickle.loads(row)) for row in batch["row"]])
        return {"row": [pickle.dumps(result) for result in results]}

    async def _result(self, row: Row) -> Row | DpeError:
        """Map one row; an error travels as a value, since Ray's wrappers lose what it was."""
        try:
            result: Row = await self._work(row)
        except DpeError as error:
            return error
        except Exception as error:  # recording border: the driver raises it
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

        Raises the worker's own DpeError, or ClusterError for anything else that broke a worker.
        """
        items = [{"row": pickle.dumps(row)} for row in rows]
        if not items:
            return
        loop, queue, stop = asyncio.get_running_loop(), asyncio.Queue[Row | BaseException | None](), threading.Event()

        def pump() -> None:
            try:
                for row in self._results(spec, items):
                    if stop.is_set():
                        break
                    loop.call_soon_threadsafe(queue.put_nowait, row)
            except Exception as error:  # recording border: the caller raises it in its own thread
                loop.call_soon_threadsafe(queue.put_nowait, error)
            else:
                loop.call_soon_threadsafe(queue.put_nowait, None)

        thread = asyncio.create_task(in_daemon(pump))
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
            stop.set()
            await asyncio.wait([thread], timeout=patience)

    def _results(self, spec: MapSpec, items: list[dict[str, bytes]]) -> Iterator[Row | DpeError]:
        batch = max(1, min(16, spec.concurrency // CALLS_PER_ACTOR))
        dataset = ray.data.from_items(items, override_num_blocks=max(1, -(-len(items) // batch))).map_batches(
            RowWorker,
            fn_constructor_args=(spec,),
            batch_size=batch,
            compute=ActorPoolStrategy(
                min_size=spec.workers[0], max_size=spec.workers[1], max_concurrent_calls_per_actor=CALLS_PER_ACTOR
            ),
            num_cpus=self.num_cpus,
            resources=spec.labels or None,
        )
        for mapped in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            yield from (pickle.loads(row) for row in mapped["row"])
