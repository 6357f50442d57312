"""The clipped policy-gradient term."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Surrogate:
    """[B, T], or [B, 1] where the ratio is the sequence's."""

    loss: Tensor
    below: Tensor
    """Bool: a bad token's ratio is under the lower bound, so it has no gradient."""
    above: Tensor
    """Bool: a good token's ratio is over the upper bound, so it has no gradient."""
    beyond: Tensor
    """Bool: a bad token's ratio is over the dual bound, so it has no gradient."""


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float, dual: float | None) -> Surrogate:
    """Take the worse of a ratio and its clipped self, times the advantage.

        max(-A ratio, -A clamp(ratio, 1 - low, 1 + high))        for A < 0 at most -A dual

    A `high` above `low` leaves rare good tokens room to grow (DAPO, arXiv 2503.14476 section 3.1). `dual`, a ratio
    above 1, bounds what one bad token that became likely can cost (dual-clip PPO, arXiv 1912.09729; for a `dual` of
    at least 1 + high the same as TRL's `delta`, arXiv 2505.07291); None leaves it unbounded.

    Args:
        ratio: [B, T] or [B, 1].
        advantages: [B, 1].
        low: 0-1.
        high: Above 0.
        dual: Above 1, or None.
    """
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high))
    beyond = torch.zeros_like(loss, dtype=torch.bool)
    if dual is not None:
        ceiling = -advantages * dual
        beyond = (advantages < 0) & (loss > ceiling)
        loss = torch.where(beyond, ceiling, loss)
    return Surrogate(loss, (ratio < 1 - low) & (advantages < 0), (ratio > 1 + high) & (advantages > 0), beyond)
