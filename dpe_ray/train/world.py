"""The training processes of one update, and what goes on between them: sums, and what each shows the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


def _alone(tensor: Tensor) -> None:
    """One process: a sum over ranks changes nothing."""


def _own(items: list[Any]) -> list[list[Any]]:
    """One process: what all have is what it has."""
    return [items]


@dataclass(frozen=True)
class World:
    """Rank and size, and what goes on between ranks. Every rank must make the same calls in the same order."""

    rank: int = 0
    size: int = 1
    add: Callable[[Tensor], None] = _alone
    """Replaces the tensor by its sum over all ranks; returns on every rank only when all have called it."""
    collect: Callable[[list[Any]], list[list[Any]]] = _own
    """A list of every rank's list, by rank, on every rank; what is in them pickles."""
    device: str = "cpu"
    """Where this rank's sums lie: NCCL adds nothing that is on CPUs."""

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """What this rank does of a list that every rank has."""
        return items[self.rank :: self.size]

    def rejoined(self, items: Sequence[Item]) -> list[Item]:
        """The list of which every rank's `items` are its `share`, or were made from it one by one."""
        rows = zip_longest(*([[item] for item in part] for part in self.collect(list(items))), fillvalue=[])
        return list(chain.from_iterable(chain.from_iterable(rows)))

    def total(self, *values: float) -> list[float]:
        """Each value summed over all ranks."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        self.add(tensor)
        return tensor.tolist()

    def largest(self, value: int) -> int:
        """Find the largest value of any rank."""
        per_rank = [0.0] * self.size
        per_rank[self.rank] = float(value)
        return int(max(self.total(*per_rank)))

    def wait(self) -> None:
        """Return when every rank has arrived."""
        self.total(0.0)


def distributed_world(device: str) -> World:
    """Describe the process group that torch.distributed has already joined; `device` is this rank's."""
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size(), _add, _collect, device)


def _collect(items: list[Any]) -> list[list[Any]]:
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, items)
    return parts


def _add(tensor: Tensor) -> None:
    torch.distributed.all_reduce(tensor)
