"""Group-relative advantages. No value network: the other rollouts of the same prompt are the baseline."""

from collections.abc import Sequence
from statistics import mean, stdev

EPSILON = 1e-6


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """[G] rewards of one prompt -> [G] advantages.

        A_i = (r_i - mean(r)) / (std(r) + 1e-6),    std with G - 1 in the denominator (DPE's public code)

    A group of equal rewards says nothing about which rollout was better: exactly zeros, as for G = 1.

    Example:
        rewards [1, 0, 0, 1]: mean 0.5, std sqrt(4 * 0.25 / 3) = 0.57735, advantages [0.866, -0.866, -0.866, 0.866].
    """
    if equal_rewards(rewards):
        return [0.0] * len(rewards)
    centre, spread = mean(rewards), stdev(rewards)
    return [(reward - centre) / (spread + EPSILON) for reward in rewards]


def equal_rewards(rewards: Sequence[float]) -> bool:
    """Tell whether a group carries no signal."""
    return len(set(rewards)) < 2
