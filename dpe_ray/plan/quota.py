"""From weights to whole numbers that sum exactly."""

import math
from collections.abc import Mapping


def largest_remainder(weights: Mapping[str, float], total: int, minimum: int | Mapping[str, int] = 0) -> dict[str, int]:
    """Share `total` in proportion to the weights (0 or more, not all 0); everyone gets at least their minimum.

    Each gets the whole part of its share, what is left goes to the largest fractions (ties: larger weight, then name).
    What lifts someone to the minimum is taken from who is furthest above it. Raises ValueError when the minima do not
    fit.
    """
    least = dict.fromkeys(weights, minimum) if isinstance(minimum, int) else minimum
    if sum(least.values()) > total:
        raise ValueError(f"minima of {sum(least.values())} in all do not fit into {total}")
    whole = sum(weights.values())
    shares = {name: total * weight / whole for name, weight in weights.items()}
    quotas = {name: math.floor(share) for name, share in shares.items()}
    by_fraction = sorted(shares, key=lambda name: (quotas[name] - shares[name], -weights[name], name))
    for name in by_fraction[: total - sum(quotas.values())]:
        quotas[name] += 1
    for name in sorted(quotas):
        while quotas[name] < least[name]:
            richest = max(sorted(quotas), key=lambda other: quotas[other] - least[other])
            quotas[richest] -= 1
            quotas[name] += 1
    return quotas
