"""The GRPO loss: clipped surrogate, corrected for the engine, and KL to the reference. Axes: B sequences, T tokens."""

from dataclasses import dataclass

from torch import Tensor

from dpe_ray.train.objectives.engine_ratio import engine_correction
from dpe_ray.train.objectives.kl import ESTIMATORS
from dpe_ray.train.objectives.mean import summed
from dpe_ray.train.objectives.ratio import policy_ratio
from dpe_ray.train.objectives.surrogate import clipped_surrogate
from dpe_ray.train.settings import GrpoSettings


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


def grpo_loss(
    logprobs: TokenLogprobs,
    advantages: Tensor,
    mask: Tensor,
    weights: Tensor,
    settings: GrpoSettings,
    *,
    denominator: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one micro-batch, as its share of the whole update, and what to log about it.

        token = surrogate(new / old, A) weight(old / rollout) + kl estimator(new, reference) [times new / old]

    Args:
        logprobs: The four policies' log-probabilities.
        advantages: [B].
        mask: [B, T], 1 at completion tokens.
        weights: [B], 0 for a sequence that only keeps the ranks in step.
        settings: Which ratio, bounds, correction, estimator and mean.
        denominator: `mean.denominator` of the whole update over all ranks, so that micro-batches and ranks add up.

    Returns:
        A scalar, and sums over the weighted tokens: tokens, clipped_low, clipped_high, clipped_dual, truncated (engine
        ratio above the cap), gap (absolute `old - rollout`) and, with a reference, kl.
    """
    mask = mask * weights[:, None]
    ratio = policy_ratio(logprobs.new, logprobs.old, mask, settings.importance_sampling_level)
    surrogate = clipped_surrogate(ratio, advantages[:, None], settings.clip_low, settings.clip_high, settings.clip_dual)
    correction = engine_correction(logprobs.old, logprobs.rollout, settings.rollout_ratio, settings.rollout_cap)
    token_loss = surrogate.loss * correction.weight
    counted = {
        "clipped_low": surrogate.below,
        "clipped_high": surrogate.above,
        "clipped_dual": surrogate.beyond,
        "truncated": correction.capped,
        "gap": correction.gap,
    }
    if logprobs.reference is not None:
        divergence = ESTIMATORS[settings.kl_estimator](logprobs.new, logprobs.reference)
        if settings.kl_importance:
            divergence = divergence * ratio
        token_loss = token_loss + settings.kl * divergence
        counted["kl"] = divergence
    sums = {name: (value.detach() * mask).sum() for name, value in counted.items()}
    return summed(token_loss, mask, settings.loss_mean) / denominator, {"tokens": mask.sum(), **sums}
