"""What to add, and how much of it."""

from dataclasses import dataclass
from functools import cached_property

from dpe_ray.types.diagnosis import Need
from dpe_ray.types.sample import content_id


@dataclass(frozen=True)
class CellPlan:
    """The order for one cell."""

    category: str
    skill: str
    weight: float
    """Mixture weight, 0-1; all cells sum to 1."""
    quota: int
    """Samples to accept."""
    instruction: str
    """What a sample for this cell should exercise, in words, from the failures."""
    queries: tuple[str, ...] = ()
    """Missing skills in words, one per error, to retrieve by; empty: the skill's name stands for all."""
    need: Need = Need.ELICITABLE
    """What it lacks: decides its weight under `plan.method: posterior` (what training cannot meet keeps the floor), and
    whether its samples must lie in the pass-rate band."""

    @property
    def cell(self) -> str:
        """`category/skill`."""
        return f"{self.category}/{self.skill}"


@dataclass(frozen=True)
class DataPlan:
    """Quotas that sum exactly to the total, and how many replay samples go beside them."""

    cells: tuple[CellPlan, ...]
    total: int
    replay: int = 0
    """Labelled samples of what was mastered, mixed into training against forgetting."""

    def __post_init__(self) -> None:
        if sum(c.quota for c in self.cells) != self.total:
            raise ValueError(f"quotas sum to {sum(c.quota for c in self.cells)}, not to {self.total}")

    @cached_property
    def id(self) -> str:
        """Hash of quotas and replay."""
        return content_id([(c.cell, c.quota) for c in self.cells], self.replay)

    @property
    def quotas(self) -> dict[str, int]:
        """Quota per cell."""
        return {c.cell: c.quota for c in self.cells}
