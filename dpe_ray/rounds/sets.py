"""The image and sample sets of a run, read and checked before anything is asked or trained."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dpe_ray.config import RunConfig
from dpe_ray.diagnose.adaptive import second_probe
from dpe_ray.diagnose.probe import select_probe
from dpe_ray.errors import ConfigError
from dpe_ray.evaluate.suites import Suite, check_disjoint, suite_of
from dpe_ray.pool.contamination import HeldOut
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.pool.sets import ImagePool
from dpe_ray.pool.sources import resolve
from dpe_ray.rounds.store import RunFolder
from dpe_ray.seeds import child_seed
from dpe_ray.types import Graded, Rejection, Sample

TOLD = 20
"""Rows of the support set that cannot be used and are told one by one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sets:
    """Probe, gate and final never mix with what is trained on."""

    pool: ImagePool | None
    """Unlabelled: what supply draws from; None where no supplier does."""
    support: tuple[Sample, ...]
    """Labelled, may be trained on; without what is near to a held-out item."""
    support_refused: int
    """Samples of the support set that were too near."""
    probe: tuple[Sample, ...]
    """What diagnoses draw from."""
    gate: tuple[Sample, ...]
    final: tuple[Sample, ...]
    suite_of: Mapping[str, str]
    """Sample id to the suite it stands in, as the config names it."""
    held_out: HeldOut
    """Images of probe, gate and final: a candidate near one of them is refused."""
    support_unusable: int = 0
    """Rows of the support set that could not be read; the log names them."""

    def drawn_from(self) -> ImagePool:
        """The pool, for a supplier that the config lets draw from it."""
        if self.pool is None:
            raise ConfigError("pool is missing: give {source: unlabelled images}")
        return self.pool

    def suites(self) -> dict[str, Mapping[str, Sample]]:
        """Gate and final samples by id."""
        return self._suites

    @cached_property
    def _suites(self) -> dict[str, Mapping[str, Sample]]:
        return {name: {s.id: s for s in getattr(self, name)} for name in ("gate", "final")}

    def told(self) -> str:
        """Sizes in a few words."""
        sizes = {name: len(getattr(self, name)) for name in ("support", "probe", "gate", "final")}
        told = ", ".join(f"{name} {n}" for name, n in sizes.items())
        pool = f"pool of {len(self.pool.blocks)} files or parts" if self.pool else "no pool"
        unusable = f", {self.support_unusable} rows of it cannot be used" if self.support_unusable else ""
        return f"{pool}, {told}; {self.support_refused} of support near held-out ones{unusable}"


def load_sets(config: RunConfig, run: RunFolder) -> Sets:
    """Read all sets of a run. Raises PoolError for one that is empty, unreadable, or shares an image with another.

    A bad row of the support set is left out and told in the log; one of a set that is measured on raises.
    """
    store = ImageStore(run.images)

    def path(source: str) -> str:
        return resolve(source, run.path / "sources", config.seed)

    def read(source: str, name: str) -> tuple[Sample, ...]:
        return read_samples(path(source), store, provenance=name)

    pool = ImagePool(path(config.pool.source), store) if config.pool else None
    if pool:
        pool.check()
    probe, gate = read(config.probe.source, "probe"), read(config.decision.suite, "gate")
    finals = [Suite(suite.suite, read(suite.suite, "final")) for suite in config.final]
    final = tuple(sample for suite in finals for sample in suite.samples)
    unusable: list[Rejection] = []
    support = read_samples(path(config.support.source), store, refused=unusable) if config.support else ()
    _tell(unusable)
    check_disjoint({"support": support, "probe": probe, "gate": gate, "final": final})
    names = suite_of([Suite(config.decision.suite, gate), *finals])
    held_out = HeldOut.build((*probe, *gate, *final))
    clean = tuple(sample for sample in support if held_out(sample) is None)
    return Sets(pool, clean, len(support) - len(clean), probe, gate, final, names, held_out, len(unusable))


def _tell(unusable: Sequence[Rejection]) -> None:
    for rejection in unusable[:TOLD]:
        log.warning("support: %s", rejection.reason)
    if len(unusable) > TOLD:
        log.warning("support: %d more rows cannot be used", len(unusable) - TOLD)


def round_probe(config: RunConfig, sets: Sets, index: int) -> tuple[Sample, ...]:
    """The probe items of a round, without those of a second batch."""
    return select_probe(sets.probe, config.probe.size, child_seed(config.seed, "probe", index))


def second_batch(config: RunConfig, sets: Sets, index: int, graded: Sequence[Graded]) -> tuple[Sample, ...]:
    """`probe.second` further items of a round, by category where the accuracy in `graded` is least certain."""
    counts: dict[str, tuple[int, int]] = {}
    for g in graded:
        judged, right = counts.get(g.sample.category, (0, 0))
        counts[g.sample.category] = judged + g.verdict.judged, right + (g.verdict.judged and g.verdict.correct)
    asked = {g.sample.id for g in graded}
    return second_probe(sets.probe, asked, counts, config.probe.second, child_seed(config.seed, "probe", index))
