"""What fills quotas, and what it gives back."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from dpe_ray.types import DataPlan, Rejection, Sample


@dataclass(frozen=True)
class SupplierYield:
    """What one supplier gave, and for how much."""

    proposed: int
    """Slots that ended."""
    accepted: int
    calls: int
    """Teacher calls of the slots that ended."""


@dataclass(frozen=True)
class Supplied:
    """What was proposed: every slot that ended is a sample or a rejection."""

    samples: tuple[Sample, ...]
    """Accepted, in slot order; never more than the quota of a cell."""
    rejections: tuple[Rejection, ...]
    """In slot order."""
    proposed: int
    """Slots that ended. One that was never started, or was cut off when the last quota was filled, is not counted."""
    shortfall: dict[str, int]
    """Samples that are missing, per cell; cells that got their quota are left out."""
    closed_by: str
    """quota (all full), exhausted (cells gave up), budget, slots (a round may try no more) or pool (no more images)."""
    calls: int
    """Teacher calls of the slots that ended."""
    by_supplier: dict[str, SupplierYield] = field(default_factory=dict)
    """In the order in which they were asked; filled in by the stage."""
    images: int = 0
    """Pool images that were used up: no later round is given them."""


class Supplier(Protocol):
    """One way to fill cells: retrieve, construct, annotate."""

    @property
    def name(self) -> str:
        """As in `supply.order`."""
        ...

    async def fill(self, plan: DataPlan, wanted: Mapping[str, int], seen: AbstractSet[str]) -> Supplied:
        """Fill what is still `wanted` per cell of `plan`; nothing whose `gates.sample_key` is in `seen`."""
        ...
