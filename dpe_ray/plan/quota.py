"""From weights to whole numbers that sum exactly."""

import math
from collections.abc import Mapping


def largest_remainder(weights: Mapping[str, float], total: int, minimum: int = 0) -> dict[str, int]:
    """Share `total` in proportion to the weights (0 or more, not all 0); everyone gets at least `minimum`.

    Each gets the whole part of its share, what is left goes to the largest fractions (ties: larger weight, then name).
    What lifts someone to the minimum is taken from who holds most. Raises ValueError when the minimum does not fit.
    """
    if minimum * len(weights) > total:
        raise ValueError(f"{len(weights)} x {minimum} do not fit into {total}")
    whole = sum(weights.values())
    shares = {name: total * weight / whole for name, weight in weights.items()}
    quotas = {name: math.floor(share) for name, share in shares.items()}
    by_fraction = sorted(shares, key=lambda name: (quotas[name] - shares[name], -weights[name], name))
    for name in by_fraction[: total - sum(quotas.values())]:
        quotas[name] += 1
    for name in sorted(quotas):
        while quotas[name] < minimum:
            richest = max(sorted(quotas), key=lambda other: quotas[other])
            quotas[richest] -= 1
            quotas[name] += 1
    return quotas
