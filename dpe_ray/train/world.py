"""The training processes of one update, and the one thing they do together: add tensors up."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _alone(tensor: Tensor) -> None:
    """One process: a sum over ranks changes nothing."""


@dataclass(frozen=True)
class World:
    """Rank and size, and a sum over ranks. Every rank must make the same calls in the same order."""

    rank: int = 0
    size: int = 1
    add: Callable[[Tensor], None] = _alone
    """Replaces the tensor by its sum over all ranks; returns on every rank only when all have called it."""

    def total(self, *values: float, device: str = "cpu") -> list[float]:
        """Each value summed over all ranks."""
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        self.add(tensor)
        return tensor.tolist()

    def largest(self, value: int, device: str = "cpu") -> int:
        """Find the largest value of any rank."""
        per_rank = [0.0] * self.size
        per_rank[self.rank] = float(value)
        return int(max(self.total(*per_rank, device=device)))

    def wait(self, device: str = "cpu") -> None:
        """Return when every rank has arrived."""
        self.total(0.0, device=device)


def distributed_world() -> World:
    """Describe the process group that torch.distributed has already joined."""
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size(), _add)


def _add(tensor: Tensor) -> None:
    torch.distributed.all_reduce(tensor)
