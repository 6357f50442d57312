"""The quota book as one Ray actor: every annotation worker asks the same owner."""

from dataclasses import dataclass
from typing import Any

import ray

from dpe_ray.ports import QuotaState
from dpe_ray.supply.quota_book import Quotas


@dataclass(frozen=True)
class ActorBook:
    """QuotaBook whose owner lives in an actor; pickles into workers."""

    actor: Any

    async def open_cells(self) -> dict[str, int]:
        """As `QuotaBook.open_cells`."""
        return await self.actor.open_cells.remote()

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `QuotaBook.reserve`."""
        return await self.actor.reserve.remote(cell, slot)

    async def commit(self, cell: str, slot: int, calls: int) -> bool:
        """As `QuotaBook.commit`."""
        return await self.actor.commit.remote(cell, slot, calls)

    async def release(self, cell: str, slot: int, calls: int) -> None:
        """As `QuotaBook.release`."""
        await self.actor.release.remote(cell, slot, calls)

    async def state(self) -> QuotaState:
        """As `QuotaBook.state`."""
        return await self.actor.state.remote()


def start_book(quotas: dict[str, int], slots_per_sample: float, calls: int) -> ActorBook:
    """Put a new `Quotas` into an actor; it ends when the last handle is gone."""
    return ActorBook(ray.remote(num_cpus=0)(Quotas).remote(quotas, slots_per_sample, calls))
