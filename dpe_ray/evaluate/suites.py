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
    """Refuse sets that share an image by content. Raises PoolError with both names and how many they share."""
    images = {name: {i.sha256 for s in samples for i in s.images} for name, samples in sets.items()}
    for one, other in combinations(images, 2):
        if shared := images[one] & images[other]:
            raise PoolError(
                f"{one} and {other} share {len(shared)} images ({min(shared)[:12]}...): "
                "what decides must not be what was looked at; give them other images"
            )
