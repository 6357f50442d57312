"""How much likelier the weights being updated make what was sampled: the PPO ratio, new / old."""

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""exp of more overflows float32 long before it means anything."""


def policy_ratio(new: Tensor, old: Tensor, mask: Tensor, level: str) -> Tensor:
    """Ratio of probabilities from natural log-probabilities [B, T]; `mask` [B, T] is 1 at tokens that count.

        token       exp(new_t - old_t)                                    [B, T]  (PPO, arXiv 1707.06347)
        sequence    exp(mean over the sequence's tokens of new - old)     [B, 1]  (GSPO, arXiv 2507.18071 eq. 7)

    The sequence's ratio is the geometric mean of its tokens': of one size whatever the length, so clip bounds are far
    smaller there (GSPO, section 5.1: 3e-4 and 4e-4).
    """
    difference = new - old
    if level == "sequence":
        difference = (difference * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return bounded_exp(difference)


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """Exp of a log-ratio, cut where it would overflow."""
    return torch.exp(log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
