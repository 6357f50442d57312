"""Blocking work beside the event loop, as `asyncio.to_thread`, but never in the way of an interrupt.

A pool's thread is joined when the loop closes and again when the interpreter ends: a training of hours would hold up
Ctrl-C for hours.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_daemon(work: Callable[[], T]) -> T:
    """Run `work` in a daemon thread. When the caller is cancelled it goes on alone, and nobody waits for it."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from now on a cancelled caller cannot cancel what the thread writes to

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # recording border: the caller raises it
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
