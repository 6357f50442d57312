"""Where the next probes go: to the cells whose remaining uncertainty matters most and shrinks fastest."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from math import sqrt
from random import Random

from dpe_ray.grading.posterior import Estimate, Tally, estimate
from dpe_ray.seeds import child_seed
from dpe_ray.types import Sample

Counts = Mapping[str, tuple[int, int]]
"""Judged and correct items by category (as `Diagnosis.by_category` gives them) or by `category/skill`."""


def second_batch(
    counts: Counts,
    available: Mapping[str, int],
    size: int,
    importance: Mapping[str, float] | None = None,
    *,
    whole_set: bool = False,
) -> dict[str, int]:
    """Share `size` further probes among the cells of `available`; sums to min(size, all there are).

    Each probe goes where it lowers sum importance x sd(accuracy) most. In the long run n ~ (importance x sd of one
    answer)^2/3: Neyman's allocation for absolute instead of squared errors. `importance` is the share of a cell in the
    target distribution, since a mixture weight is share x (1 - accuracy); equal when left out. A cell without counts is
    as uncertain as the others suggest.

    With `whole_set` the accuracy wanted is that of exactly the items asked so far and available, not of the population
    behind them: a cell asked in full is known, so small ones are worth finishing.
    """
    cells = _cells(counts, available, importance, whole_set)
    taken = dict.fromkeys(available, 0)
    queue = [(-cells[name].gain(0), name) for name in available if available[name]]
    heapq.heapify(queue)
    for _ in range(min(size, sum(available.values()))):
        _, name = heapq.heappop(queue)
        taken[name] += 1
        if taken[name] < available[name]:
            heapq.heappush(queue, (-cells[name].gain(taken[name]), name))
    return taken


def second_probe(
    items: Sequence[Sample],
    asked: Collection[str],
    counts: Counts,
    size: int,
    seed: int,
    importance: Mapping[str, float] | None = None,
) -> tuple[Sample, ...]:
    """Draw up to `size` of the items whose id is not in `asked`, shared among categories by `second_batch`."""
    rest: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.id not in asked:
            rest.setdefault(item.category, []).append(index)
    quota = second_batch(counts, {name: len(members) for name, members in rest.items()}, size, importance)
    chosen: set[int] = set()
    for name, members in rest.items():
        chosen.update(Random(child_seed(seed, "second probe", name)).sample(members, quota[name]))
    return tuple(items[index] for index in sorted(chosen))


def _cells(
    counts: Counts, available: Mapping[str, int], importance: Mapping[str, float] | None, whole_set: bool
) -> dict[str, "_Cell"]:
    names = sorted({*counts, *available})
    judged = [counts.get(name, (0, 0)) for name in names]
    tallies = [Tally(name.partition("/")[0], *count) for name, count in zip(names, judged, strict=True)]
    return {
        name: _Cell(
            found, 1.0 if importance is None else importance.get(name, 0.0), n, available.get(name, 0), whole_set
        )
        for name, found, (n, _) in zip(names, estimate(tallies), judged, strict=True)
    }


class _Cell:
    """How far the uncertainty of one cell falls with further answers."""

    def __init__(self, found: Estimate, importance: float, asked: int, available: int, whole_set: bool) -> None:
        self._one = found.mean * (1.0 - found.mean)  # variance of one answer
        self._strength = found.strength
        self._importance = importance
        self._asked, self._left, self._whole_set = asked, available, whole_set

    def gain(self, more: int) -> float:
        """By how much one probe lowers importance x sd when `more` were added already."""
        return self._importance * (self._sd(more) - self._sd(more + 1))

    def _sd(self, more: int) -> float:
        of_rate = self._one / (self._strength + more + 1.0)
        if not self._whole_set:
            return sqrt(of_rate)
        unseen = self._left - more
        if not unseen:
            return 0.0
        return unseen / (self._asked + self._left) * sqrt(of_rate + self._one / unseen)
