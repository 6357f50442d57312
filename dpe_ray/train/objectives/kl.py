"""Estimators of KL(new || reference) from single tokens drawn from `new` (Schulman, joschu.net/blog/kl-approx.html).

All take natural log-probabilities [B, T] and are 0 where the two agree.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dpe_ray.train.objectives.ratio import LOG_RATIO_LIMIT

KL_LIMIT = 10.0
"""Of k3, which grows exponentially where the reference gives a token far more than `new` does; DPE's and verl's."""


def k1(new: Tensor, reference: Tensor) -> Tensor:
    """The difference new - reference: unbiased, of either sign, high variance.

    Its gradient is that of the log-probability alone, 0 on average: as a loss it only regularises when it is weighted
    by the importance ratio.
    """
    return new - reference


def k2(new: Tensor, reference: Tensor) -> Tensor:
    """Half the squared difference: never negative, biased, and its gradient is on average that of the KL."""
    return (new - reference).square() / 2


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """GRPO's (arXiv 2402.03300 eq. 4), exp(d) - d - 1 with d = reference - new, at most 10: never negative, unbiased.

    Its gradient is on average that of KL(reference || new), unless it is weighted by the importance ratio.
    """
    difference = (reference - new).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return (torch.exp(difference) - difference - 1).clamp(max=KL_LIMIT)


ESTIMATORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
