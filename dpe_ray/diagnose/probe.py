"""Which items are asked: every category, as evenly as the set allows."""

from collections.abc import Iterable, Sequence
from random import Random

from dpe_ray.seeds import child_seed
from dpe_ray.types import Sample


def select_probe(items: Sequence[Sample], size: int, seed: int) -> tuple[Sample, ...]:
    """Draw `size` items, the same number from every category as far as it has them, in the order of `items`.

    What a small category lacks goes to the others; which categories get one item more is drawn by seed. All items
    when there are no more than `size`; a `size` below the number of categories leaves some out.
    """
    by_category: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_category.setdefault(item.category, []).append(index)
    quota = even_allocation({name: len(members) for name, members in by_category.items()}, size, seed)
    chosen: set[int] = set()
    for name, members in by_category.items():
        chosen.update(Random(child_seed(seed, "probe", name)).sample(members, quota[name]))
    return tuple(items[index] for index in sorted(chosen))


def even_allocation(available: dict[str, int], total: int, seed: int) -> dict[str, int]:
    """Share `total` evenly among the names, none above what it has; sums to min(total, all there are)."""
    order = _shuffled(available, seed)
    taken = dict.fromkeys(available, 0)
    left = min(total, sum(available.values()))
    while left:
        for name in [n for n in order if taken[n] < available[n]][:left]:
            taken[name] += 1
            left -= 1
    return taken


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    order = sorted(names)
    Random(child_seed(seed, "remainder")).shuffle(order)
    return order
