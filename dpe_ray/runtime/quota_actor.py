"""The quota book as one Ray actor: every annotation worker asks the same owner."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from dpe_ray.errors import ClusterError
from dpe_ray.ports import QuotaState
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.supply.quota_book import Quotas


@dataclass(frozen=True)
class ActorBook:
    """QuotaBook whose owner lives in an actor; pickles into workers. Every call raises ClusterError when it is lost."""

    actor: Any

    async def open_cells(self) -> dict[str, int]:
        """As `QuotaBook.open_cells`."""
        return await self._ask("open_cells")

    async def reserve(self, cell: str, slot: int) -> bool:
        """As `QuotaBook.reserve`."""
        return await self._ask("reserve", cell, slot)

    async def commit(self, cell: str, slot: int, calls: int) -> bool:
        """As `QuotaBook.commit`."""
        return await self._ask("commit", cell, slot, calls)

    async def release(self, cell: str, slot: int, calls: int) -> None:
        """As `QuotaBook.release`."""
        await self._ask("release", cell, slot, calls)

    async def state(self) -> QuotaState:
        """As `QuotaBook.state`."""
        return await self._ask("state")

    async def _ask(self, method: str, *arguments: object) -> Any:
        try:
            return await getattr(self.actor, method).remote(*arguments)
        except RayError as error:
            raise ClusterError(f"the quota book of supply is lost ({last_line(error)}); resume the run") from error


def start_book(quotas: dict[str, int], slots_per_sample: float, calls: int) -> ActorBook:
    """Put a new `Quotas` into an actor; it ends when the last handle is gone."""
    return ActorBook(ray.remote(num_cpus=0)(Quotas).remote(quotas, slots_per_sample, calls))
