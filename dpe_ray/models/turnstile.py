"""Who may use an engine when: many requests at once, or one change of its policy alone. For one event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """Lets requests in together and a change alone; a change that waits lets nobody else in before it."""

    def __init__(self) -> None:
        self._inside = 0
        self._changing = False
        self._moved = asyncio.Condition()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Hold a place beside others; what the engine serves stays the same meanwhile."""
        async with self._moved:
            await self._moved.wait_for(lambda: not self._changing)
            self._inside += 1
        try:
            yield
        finally:
            async with self._moved:
                self._inside -= 1
                self._moved.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until everybody has left, and keep others out."""
        async with self._moved:
            await self._moved.wait_for(lambda: not self._changing)
            self._changing = True
        try:
            async with self._moved:
                await self._moved.wait_for(lambda: not self._inside)
            yield
        finally:
            async with self._moved:
                self._changing = False
                self._moved.notify_all()
