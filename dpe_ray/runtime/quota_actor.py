"""Quota book and call budget as Ray actors: every annotation worker asks the same owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError

from dpe_ray.errors import ClusterError
from dpe_ray.models.call_budget import Calls
from dpe_ray.ports import Limits, Place, QuotaState, Taken
from dpe_ray.runtime.owner import owner
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.supply.quota_book import Quotas


@dataclass(frozen=True)
class ActorBook:
    """QuotaBook whose owner lives in an actor; pickles into workers. Every call raises ClusterError when it is lost."""

    actor: Any

    async def begin(self, slot: int) -> tuple[str, ...]:
        """As `QuotaBook.begin`."""
        return await _ask(self.actor, "begin", slot)

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `QuotaBook.reserve`."""
        return await _ask(self.actor, "reserve", cell, slot)

    async def assign(self, slot: int) -> Place | None:
        """As `QuotaBook.assign`."""
        return await _ask(self.actor, "assign", slot)

    async def restore(self, places: Mapping[int, Place], numbers: Mapping[str, int]) -> None:
        """As `QuotaBook.restore`."""
        await _ask(self.actor, "restore", dict(places), dict(numbers))

    async def commit(self, slot: int, key: str, calls: int) -> str:
        """As `QuotaBook.commit`."""
        return await _ask(self.actor, "commit", slot, key, calls)

    async def release(self, slot: int, calls: int) -> None:
        """As `QuotaBook.release`."""
        await _ask(self.actor, "release", slot, calls)

    async def close(self) -> None:
        """As `QuotaBook.close`."""
        await _ask(self.actor, "close")

    async def state(self) -> QuotaState:
        """As `QuotaBook.state`."""
        return await _ask(self.actor, "state")


@dataclass(frozen=True)
class ActorCalls:
    """CallBudget whose owner lives in an actor; pickles into workers. Each call raises ClusterError when it is lost."""

    actor: Any

    async def allow(self, limits: Mapping[str, Limits] | None) -> None:
        """As `CallBudget.allow`."""
        await _ask(self.actor, "allow", limits)

    async def take(self, role: str) -> Taken:
        """As `CallBudget.take`."""
        return await _ask(self.actor, "take", role)

    async def give_back(self, role: str, allowance: int) -> None:
        """As `CallBudget.give_back`."""
        await _ask(self.actor, "give_back", role, allowance)

    async def spend(self, role: str, allowance: int, tokens: int, usd: float) -> None:
        """As `CallBudget.spend`."""
        await _ask(self.actor, "spend", role, allowance, tokens, usd)


def start_book(quotas: dict[str, int], slots_per_sample: float, calls: int, calls_per_slot: int) -> ActorBook:
    """Put a new `Quotas` into an actor; it ends when the last handle is gone."""
    return ActorBook(owner(Quotas).remote(quotas, slots_per_sample, calls, calls_per_slot))


def start_calls() -> ActorCalls:
    """Put a new `Calls` into an actor; it ends when the last handle is gone."""
    return ActorCalls(owner(Calls).remote())


async def _ask(actor: Any, method: str, *arguments: object) -> Any:
    try:
        return await getattr(actor, method).remote(*arguments)
    except RayError as error:
        raise ClusterError(f"the quota book or the call budget is lost ({last_line(error)}); resume the run") from error
