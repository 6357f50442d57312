"""GRPO and its variants once more, token by token on float64 scalars: what the loss must equal."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dpe_ray.train.settings import GrpoSettings


def plain_advantages(rewards: Sequence[float], settings: GrpoSettings) -> list[float]:
    """[G] -> [G]"""
    centre = sum(rewards) / len(rewards)
    if settings.scale_rewards == "none":
        return [reward - centre for reward in rewards]
    variance = sum((reward - centre) ** 2 for reward in rewards) / (len(rewards) - settings.std_ddof)
    return [(reward - centre) / (math.sqrt(variance) + settings.std_eps) for reward in rewards]


def plain_loss(
    new: Tensor,
    old: Tensor,
    rollout: Tensor,
    reference: Tensor,
    advantages: Sequence[float],
    lengths: Sequence[int],
    settings: GrpoSettings,
) -> Tensor:
    """A scalar with a gradient for `new`; all tensors [B, T] float64, a length of 0 is a completion left out."""
    per_sequence = [
        [plain_token(i, t, new, old, rollout, reference, advantages[i], lengths[i], settings) for t in range(length)]
        for i, length in enumerate(lengths)
    ]
    sums = [sum(terms, start=torch.zeros((), dtype=torch.float64)) for terms in per_sequence]
    if settings.loss_mean == "sequence":
        return sum(s / max(n, 1) for s, n in zip(sums, lengths, strict=True)) / len(lengths)  # type: ignore[return-value]
    if settings.loss_mean == "token":
        return sum(sums) / sum(lengths)  # type: ignore[return-value]
    return sum(sums) / (len(lengths) * settings.max_tokens)  # type: ignore[return-value]


def plain_token(
    i: int,
    t: int,
    new: Tensor,
    old: Tensor,
    rollout: Tensor,
    reference: Tensor,
    advantage: float,
    length: int,
    settings: GrpoSettings,
) -> Tensor:
    """The term of token t of completion i."""
    ratio = torch.exp(new[i, t] - old[i, t])
    if settings.importance_sampling_level == "sequence":
        ratio = torch.exp(sum(new[i, s] - old[i, s] for s in range(length)) / length)
    bounds = [ratio, constant(1 - settings.clip_low), constant(1 + settings.clip_high)]
    clipped = sorted(bounds, key=Tensor.item)[1]
    term = max(-advantage * ratio, -advantage * clipped, key=Tensor.item)
    if settings.clip_dual is not None and advantage < 0:
        term = min(term, constant(-advantage * settings.clip_dual), key=Tensor.item)
    engine = math.exp(float(old[i, t] - rollout[i, t]))
    if settings.rollout_ratio == "truncate":
        term = term * min(engine, settings.rollout_cap)
    elif settings.rollout_ratio == "mask":
        term = term * (engine if engine <= settings.rollout_cap else 0.0)
    d = new[i, t] - reference[i, t]
    kl = {"k1": d, "k2": d**2 / 2, "k3": min(torch.exp(-d) + d - 1, constant(10.0), key=Tensor.item)}[
        settings.kl_estimator
    ]
    return term + settings.kl * (kl * ratio if settings.kl_importance else kl)


def constant(value: float) -> Tensor:
    """A scalar without gradient."""
    return torch.tensor(value, dtype=torch.float64)
