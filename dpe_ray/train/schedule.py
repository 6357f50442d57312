"""How the learning rate goes over the updates of a training: up while it warms up, then along one of three curves."""

import math
from collections.abc import Callable, Mapping

from torch.optim import Optimizer

CURVES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda gone: 1.0,
    "linear": lambda gone: 1.0 - gone,
    "cosine": lambda gone: 0.5 * (1.0 + math.cos(math.pi * gone)),
}
"""Share of the highest rate when a share (0-1) of the updates behind the warm-up is over; those of transformers."""


class Schedule:
    """Learning rates of an optimiser's parameter groups: each group's own, times a factor that all share.

    The factor rises in equal steps to 1 over the first `warmup` (0-1) of `updates`, then follows its curve, at whose
    end it would be at the update after the last. No update has factor 0, as transformers' first has: a short training
    would lose what it was shown there, one of a single update all. It counts updates, not what an optimiser did: one
    may have nothing to do.
    """

    def __init__(self, optimizer: Optimizer, curve: str, *, warmup: float, updates: int) -> None:
        self._optimizer = optimizer
        self._own = [group["lr"] for group in optimizer.param_groups]
        self._curve = CURVES[curve]
        self._warmup = math.ceil(warmup * updates)
        self._updates = updates
        self._set(0)

    @property
    def rate(self) -> float:
        """Of the first parameter group, which has the highest, at the update to come."""
        return float(self._optimizer.param_groups[0]["lr"])

    def advance(self) -> None:
        """Go on to the next update."""
        self._set(self._done + 1)

    def state(self) -> dict[str, int]:
        """Where it stands: what `load_state` takes."""
        return {"updates": self._done}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on from a `state()`."""
        self._set(state["updates"])

    def _set(self, done: int) -> None:
        self._done = done
        for group, own in zip(self._optimizer.param_groups, self._own, strict=True):
            group["lr"] = own * self._factor()

    def _factor(self) -> float:
        if self._done < self._warmup:
            return (self._done + 1) / self._warmup
        return self._curve(min(1.0, (self._done - self._warmup) / max(1, self._updates - self._warmup)))
