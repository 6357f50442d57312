"""From unscaled weights to a mixture: an exploration floor under every category, and the control that shuffles it."""

from collections.abc import Mapping
from random import Random


def mixture(weights: Mapping[str, float], categories: Mapping[str, str], floor: float) -> dict[str, float]:
    """Scale weights per cell (0 or more) to sum 1, every category lifted to at least `floor`.

    A category of which no cell weighs anything shares its floor evenly. A floor too high for the number of categories
    becomes an even share.
    """
    by_category: dict[str, list[str]] = {}
    for cell in weights:
        by_category.setdefault(categories[cell], []).append(cell)
    raw = {name: sum(weights[cell] for cell in cells) for name, cells in by_category.items()}
    lifted = with_floor(raw, floor)
    return {
        cell: lifted[name] * (weights[cell] / raw[name] if raw[name] else 1 / len(cells))
        for name, cells in by_category.items()
        for cell in cells
    }


def with_floor(raw: Mapping[str, float], floor: float) -> dict[str, float]:
    """Scale weights (0 or more) to sum 1 with none below `floor`, the others in proportion."""
    # weights are divided before they are multiplied: the smallest floats have no room for a product
    floor = min(floor, 1.0 / len(raw))
    lifted: set[str] = set()
    while True:
        free = {name: weight for name, weight in raw.items() if name not in lifted}
        rest, whole = 1.0 - floor * len(lifted), sum(free.values())
        if whole == 0:  # nobody is known to be weak: an even share
            return {name: floor if name in lifted else rest / len(free) for name in raw}
        low = {name for name, weight in free.items() if rest * (weight / whole) < floor}
        if not low:
            return {name: floor if name in lifted else rest * (raw[name] / whole) for name in raw}
        lifted |= low


def permuted(weights: Mapping[str, float], seed: int) -> dict[str, float]:
    """Control: deal the same weights out anew among the cells, whoever is weak."""
    names = sorted(weights)
    dealt = [weights[name] for name in names]
    Random(seed).shuffle(dealt)
    anew = dict(zip(names, dealt, strict=True))
    return {name: anew[name] for name in weights}
