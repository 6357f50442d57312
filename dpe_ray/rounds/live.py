"""What a run says while a stage works: how far each quota cell or a training is, and which calls hang."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from dpe_ray.errors import DpeError
from dpe_ray.ports import QuotaBook, QuotaState

Notify = Callable[[str], None]
LINES_EVERY_S = 30.0
STALLS_EVERY_S = 10.0


@asynccontextmanager
async def repeating(tell: Callable[[], Awaitable[None]], every_s: float) -> AsyncIterator[None]:
    """Await `tell` every `every_s` seconds while the block runs; it stops at the first DpeError, the block does not."""

    async def again() -> None:
        try:
            while True:
                await asyncio.sleep(every_s)
                await tell()
        except DpeError:  # whatever is lost here ends the block by itself
            return

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class NewLines:
    """Whole lines that others add to a file, once each."""

    def __init__(self, path: Path, *, behind: int) -> None:
        """The first `behind` bytes are left out."""
        self._path, self._read, self._inode = path, behind, _inode(path)

    def take(self) -> list[str]:
        """Lines that came since the last time."""
        if (inode := _inode(self._path)) != self._inode:  # written anew, as by a training that goes on
            self._read, self._inode = (0 if self._inode else self._read), inode
        if not inode:
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            came = file.read()
        whole = came[: came.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()


class StallLines:
    """Tells of calls that hang: the lines that workers add to a file."""

    def __init__(self, path: Path, notify: Notify) -> None:
        self._new, self._notify = NewLines(path, behind=_size(path)), notify

    async def tell(self) -> None:
        """Say what came since the last time."""
        for line in self._new.take():
            self._notify(f"stalled  {line}")


class StepLines:
    """Tells where a training stands: the last line that it added to its metrics.jsonl, and which trackers failed."""

    def __init__(self, title: str, metrics: Path, notify: Notify, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._notify, self._clock = title, notify, clock
        self._new, self._began = NewLines(metrics, behind=_size(metrics)), clock()
        failures = metrics.with_name("failures.log")
        self._failures = NewLines(failures, behind=_size(failures))

    async def tell(self) -> None:
        """Say nothing of steps when none ended since the last time."""
        self.tell_failures()
        if lines := self._new.take():
            self._notify(f"{self._title} {self._clock() - self._began:6.1f} s  {trained(json.loads(lines[-1]))}")

    def tell_failures(self) -> None:
        """Say which trackers failed since the last time."""
        for line in self._failures.take():
            self._notify(f"tracking  {line}")


class QuotaLines:
    """Tells where a supply stage stands: one line for all of it, one for every cell that is open."""

    def __init__(self, title: str, notify: Notify, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._notify, self._clock = title, notify, clock
        self._began = clock()
        self._book: QuotaBook | None = None
        self._supplier = ""
        self._told_at, self._accepted = 0.0, dict[str, int]()

    def watch(self, supplier: str, book: QuotaBook) -> QuotaBook:
        """From now on tell of this book."""
        self._supplier, self._book = supplier, book
        self._told_at, self._accepted = self._clock(), {}
        return book

    async def tell(self) -> None:
        """Rates are those since the last time."""
        if self._book is None:
            return
        state, now = await self._book.state(), self._clock()
        minutes = max(now - self._told_at, 1e-9) / 60
        rates = {cell: (n - self._accepted.get(cell, 0)) / minutes for cell, n in state.accepted.items()}
        self._told_at, self._accepted = now, state.accepted
        wanted, here = sum(state.quotas.values()), sum(state.accepted.values())
        tried, busy = sum(state.slots.values()), sum(state.in_flight.values())
        told = progress(here, wanted, tried - here - busy, busy, state.calls, sum(rates.values()))
        self._notify(f"{self._title} {now - self._began:6.1f} s  {self._supplier}: {told}")
        for cell in _open(state):
            here, tried, busy = state.accepted[cell], state.slots[cell], state.in_flight[cell]
            told = progress(here, state.quotas[cell], tried - here - busy, busy, state.spent[cell], rates[cell])
            self._notify(f"         {cell}: {told}")


def _inode(path: Path) -> int:
    """0 where there is no file."""
    return path.stat().st_ino if path.exists() else 0


def _size(path: Path) -> int:
    """Bytes that an earlier run wrote."""
    return path.stat().st_size if path.exists() else 0


def last_step(metrics: Path) -> str:
    """The last step in a training's metrics.jsonl, in words; empty where there is none."""
    lines = NewLines(metrics, behind=0).take()
    return trained(json.loads(lines[-1])) if lines else ""


def trained(metrics: Mapping[str, float]) -> str:
    """In words. Example: step 12, 28 to go, reward 0.71, 1.1 s a step, 1 min left."""
    name = "reward" if "reward" in metrics else "loss"
    failed = f", {errors:.0f} of the last rewards failed" if (errors := metrics.get("reward_errors")) else ""
    seconds, pace, still = metrics["step_time_s"], f"{metrics['step_time_s']:.1f} s a step", ""
    if (left := metrics.get("steps_left")) is not None:  # runs of earlier versions have none
        still, pace = f", {left:.0f} to go", f"{pace}, {left * seconds / 60:.0f} min left"
    return f"step {metrics['step']}{still}, {name} {metrics[name]:.2f}{failed}, {pace}"


def progress(accepted: int, wanted: int, rejected: int, in_flight: int, calls: int, per_minute: float) -> str:
    """In words. Example: 12 of 20 accepted, 31 rejected, 4 in flight, 96 calls, 3.0 a minute, 3 min left."""
    left = f"{(wanted - accepted) / per_minute:.0f} min left" if per_minute > 0 else "no end in sight"
    told = f"{accepted} of {wanted} accepted, {rejected} rejected, {in_flight} in flight, {calls} calls"
    return f"{told}, {per_minute:.1f} a minute, {left}"


def _open(state: QuotaState) -> list[str]:
    return [cell for cell, wanted in state.quotas.items() if state.accepted[cell] < wanted]
