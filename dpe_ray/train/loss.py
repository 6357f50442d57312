"""The GRPO loss: clipped surrogate, KL to the reference policy. Axes: B sequences, T completion tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # exp of more overflows float32 long before it means anything
KL_LIMIT = 10.0


@dataclass(frozen=True)
class TokenLogprobs:
    """[B, T] natural log-probabilities of the same completion tokens under four policies."""

    new: Tensor
    """Under the weights being updated; the only one with a gradient."""
    old: Tensor
    """Under the trainer's own weights when the rollouts were taken: the denominator of the PPO ratio."""
    rollout: Tensor
    """As the rollout engine reported them; engines round differently, so `old - rollout` is not 0."""
    reference: Tensor | None = None
    """Under the policy at the start of the round; None leaves the KL term out."""


@dataclass(frozen=True)
class ClipSettings:
    """Bounds and weights of the loss; see `train.settings`."""

    low: float = 0.2
    high: float = 0.3
    dual: float = 3.0
    kl: float = 0.01
    rollout_cap: float = 2.0
    loss_mean: str = "sequence"


def grpo_loss(
    logprobs: TokenLogprobs,
    advantages: Tensor,
    mask: Tensor,
    weights: Tensor,
    clip: ClipSettings,
    *,
    denominator: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one micro-batch, as its share of the whole update, and what to log about it.

        ratio = exp(new - old)
        token = max(-A ratio, -A clamp(ratio, 1 - low, 1 + high)), for A < 0 at most -A dual
        loss  = sum over tokens of min(exp(old - rollout), cap) token + kl k3(new, reference)

    Args:
        logprobs: The four policies' log-probabilities.
        advantages: [B].
        mask: [B, T], 1 at completion tokens.
        weights: [B], 0 for a sequence that only keeps the ranks in step.
        clip: Bounds and weights.
        denominator: Sequences (loss_mean `sequence`) or tokens (`token`) of the whole update over all ranks, so that
            micro-batches and ranks add up to the mean.

    Returns:
        A scalar, and sums over the weighted tokens: tokens, clipped, clipped_dual, truncated, gap (absolute
        `old - rollout`) and, with a reference, kl.
    """
    mask = mask * weights[:, None]
    advantage = advantages[:, None]
    ratio = torch.exp((logprobs.new - logprobs.old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
    surrogate = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip.low, 1 + clip.high))
    ceiling = -advantage * clip.dual
    token_loss = torch.where(advantage < 0, torch.minimum(surrogate, ceiling), surrogate)

    gap = logprobs.old - logprobs.rollout
    engine_ratio = torch.exp(gap.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)).detach()
    token_loss = token_loss * engine_ratio.clamp(max=clip.rollout_cap)

    outside = ((ratio < 1 - clip.low) & (advantage < 0)) | ((ratio > 1 + clip.high) & (advantage > 0))
    sums = {
        "tokens": mask.sum(),
        "clipped": (outside * mask).sum(),
        "clipped_dual": ((advantage < 0) & (surrogate > ceiling)).mul(mask).sum(),
        "truncated": ((engine_ratio > clip.rollout_cap) * mask).sum(),
        "gap": (gap.abs() * mask).sum(),
    }
    if logprobs.reference is not None:
        divergence = k3(logprobs.new, logprobs.reference)
        token_loss = token_loss + clip.kl * divergence
        sums["kl"] = (divergence * mask).sum()
    total = (token_loss * mask).sum(dim=1)
    if clip.loss_mean == "sequence":
        total = total / mask.sum(dim=1).clamp(min=1)
    return total.sum() / denominator, {name: value.detach() for name, value in sums.items()}


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """Schulman's estimator of KL(new || reference) per token: exp(d) - d - 1 with d = reference - new, at most 10.

    Never negative, 0 where both agree, and unbiased for tokens drawn from `new`.
    """
    difference = (reference - new).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return (torch.exp(difference) - difference - 1).clamp(-KL_LIMIT, KL_LIMIT)
