"""Fixed sets that policies are measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from dpe_ray.errors import PoolError
from dpe_ray.types import Sample


@dataclass(frozen=True)
class Suite:
    """One measured set. Equal samples, equal scores: the items never change within a run."""

    name: str
    samples: tuple[Sample, ...]


def suite_of(suites: Sequence[Suite]) -> dict[str, str]:
    """Map sample id to the name of its suite. Raises PoolError when an item stands in two."""
    names: dict[str, str] = {}
    for suite in suites:
        for sample in suite.samples:
            if names.setdefault(sample.id, suite.name) != suite.name:
                raise PoolError(f"item {sample.id} is in {names[sample.id]} and {suite.name}; keep it in one suite")
    return names


def check_disjoint(sets: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse sets that share an image by content. Raises PoolError with both, an example of each, and what to do."""
    asked = {name: {i.sha256: s.question for s in samples for i in s.images} for name, samples in sets.items()}
    for one, other in combinations(asked, 2):
        if shared := asked[one].keys() & asked[other].keys():
            first = min(shared)
            raise PoolError(
                f"{one} and {other} share {len(shared)} images, such as that of "
                f"{asked[one][first][:80]!r} ({one}) and {asked[other][first][:80]!r} ({other}); what measures "
                f"must not be what was learned from or looked at: leave these rows out of {one}, or split one source "
                "by image and name its parts SOURCE#SPLIT"
            )
