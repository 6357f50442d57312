"""Two engines, one policy: what rollouts were sampled with is not quite what the trainer computes.

The ratio old / rollout, of the same weights in both engines, corrects for that. It is no part of the PPO ratio
new / old, and is never clipped with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpe_ray.train.objectives.ratio import bounded_exp


@dataclass(frozen=True)
class Correction:
    """[B, T], without gradient."""

    weight: Tensor
    """What a token's policy-gradient term is multiplied by."""
    capped: Tensor
    """Bool: the ratio is above the cap."""
    gap: Tensor
    """|old - rollout| in nats."""


def engine_correction(old: Tensor, rollout: Tensor, how: str, cap: float) -> Correction:
    """Weigh tokens by exp(old - rollout); `old` and `rollout` are [B, T] natural log-probabilities.

    truncate    min(ratio, cap)                            (TRL's `token_truncate`)
    mask        ratio, and 0 for tokens above the cap      (TRL's `token_mask`)
    off         1
    """
    with torch.no_grad():
        gap = old - rollout
        ratio = bounded_exp(gap)
        capped = ratio > cap
        weights = {
            "truncate": ratio.clamp(max=cap),
            "mask": ratio.masked_fill(capped, 0.0),
            "off": torch.ones_like(ratio),
        }
        return Correction(weights[how], capped, gap.abs())
