"""Quota book and call budget as Ray actors: every annotation worker asks the same owner."""

from dataclasses import dataclass
from typing import Any

import ray

from dpe_ray.models.call_budget import Calls
from dpe_ray.ports import QuotaState
from dpe_ray.supply.quota_book import Quotas


@dataclass(frozen=True)
class ActorBook:
    """QuotaBook whose owner lives in an actor; pickles into workers."""

    actor: Any

    async def begin(self, slot: int) -> dict[str, int]:
        """As `QuotaBook.begin`."""
        return await self.actor.begin.remote(slot)

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `QuotaBook.reserve`."""
        return await self.actor.reserve.remote(cell, slot)

    async def commit(self, cell: str, slot: int, calls: int) -> bool:
        """As `QuotaBook.commit`."""
        return await self.actor.commit.remote(cell, slot, calls)

    async def release(self, cell: str, slot: int, calls: int) -> None:
        """As `QuotaBook.release`."""
        await self.actor.release.remote(cell, slot, calls)

    async def close(self) -> None:
        """As `QuotaBook.close`."""
        await self.actor.close.remote()

    async def state(self) -> QuotaState:
        """As `QuotaBook.state`."""
        return await self.actor.state.remote()


@dataclass(frozen=True)
class ActorCalls:
    """CallBudget whose owner lives in an actor; pickles into workers."""

    actor: Any

    async def allow(self, calls: int | None) -> None:
        """As `CallBudget.allow`."""
        await self.actor.allow.remote(calls)

    async def take(self) -> bool:
        """As `CallBudget.take`."""
        return await self.actor.take.remote()

    async def give_back(self) -> None:
        """As `CallBudget.give_back`."""
        await self.actor.give_back.remote()


def start_book(quotas: dict[str, int], slots_per_sample: float, calls: int) -> ActorBook:
    """Put a new `Quotas` into an actor; it ends when the last handle is gone."""
    return ActorBook(ray.remote(num_cpus=0)(Quotas).remote(quotas, slots_per_sample, calls))


def start_calls() -> ActorCalls:
    """Put a new `Calls` into an actor; it ends when the last handle is gone."""
    return ActorCalls(ray.remote(num_cpus=0)(Calls).remote())
