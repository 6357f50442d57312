"""The ports in one process: plain asyncio, for unit tests, benchmarks and machines without a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from dpe_ray.models.images import read_bytes
from dpe_ray.ports import ChatReply, ChatRequest, Engine, EngineRequest, MapSpec, Row


class LocalMapper:
    """Runs up to `spec.concurrency` rows at once in the caller's event loop; rows are taken as places get free."""

    async def map(self, spec: MapSpec, rows: Iterable[Row]) -> AsyncIterator[Row]:
        """Yield results as they finish. Closing the iterator cancels what is in flight."""
        work = spec.factory(spec.config)
        waiting = iter(rows)
        running: set[asyncio.Task[Row]] = set()
        try:
            while True:
                while len(running) < spec.concurrency and (row := next(waiting, None)) is not None:
                    running.add(asyncio.ensure_future(work(row)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


@dataclass(frozen=True)
class EngineDoor:
    """A door to an engine in this process: no endpoint, no journal. Does not pickle more than its engine does."""

    engine: Engine
    model: str

    def open(self) -> "EngineDoor":
        """Give itself: the engine is shared by all who open it."""
        return self

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`."""
        turns = tuple((m.role, m.text, tuple(read_bytes(image) for image in m.images)) for m in request.messages)
        sampling = (request.n, request.temperature, request.top_p, request.max_tokens, request.seed)
        top = request.top_logprobs
        completions = await self.engine.chat(EngineRequest(turns, *sampling, logprobs=top > 0, top_logprobs=top))
        tokens = sum(len(c.token_ids) for c in completions)
        first = tuple(c.top_logprobs[0] for c in completions if c.top_logprobs)
        texts = tuple(c.text for c in completions)
        return ChatReply(texts, self.model, "", completion_tokens=tokens, first_token=first)
