"""Group-relative advantages. No value network: the other rollouts of the same prompt are the baseline."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean


def group_advantages(
    rewards: Sequence[float], *, scale: str = "group", ddof: int = 1, eps: float = 1e-6
) -> list[float]:
    """[G] rewards of one prompt -> [G] advantages.

        A_i = (r_i - mean(r)) / (std(r) + eps),    std with G - ddof in the denominator

    As in GRPO, arXiv 2402.03300 section 4.1.2; ddof 1 and eps 1e-6 are DPE's public code, eps 1e-4 is TRL's.
    `scale` none leaves the division out: dividing gives prompts that are nearly always or nearly never solved more
    weight than those in between (Dr. GRPO, arXiv 2503.20783 section 3.1). A group of equal rewards says nothing about
    which rollout was better: exactly zeros, as for G = 1.

    Example:
        rewards [1, 0, 0, 1]: mean 0.5, std sqrt(4 * 0.25 / 3) = 0.57735, advantages [0.866, -0.866, -0.866, 0.866].
    """
    if equal_rewards(rewards):
        return [0.0] * len(rewards)
    centre = mean(rewards)
    differences = [reward - centre for reward in rewards]
    if scale == "none":
        return differences
    spread = sqrt(sum(difference**2 for difference in differences) / (len(rewards) - ddof))
    return [difference / (spread + eps) for difference in differences]


def equal_rewards(rewards: Sequence[float]) -> bool:
    """Tell whether a group carries no signal."""
    return len(set(rewards)) < 2
