"""The supply stage: asks one supplier after the other for what is still missing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from dpe_ray.errors import ModelUnavailable
from dpe_ray.supply.gates import DUPLICATE, sample_key
from dpe_ray.supply.supplier import Supplied, Supplier, SupplierYield
from dpe_ray.types import Candidate, DataPlan, Rejection, Sample

Outcome = Candidate | Rejection
"""How a slot ended."""


async def supply(plan: DataPlan, suppliers: Sequence[Supplier], seen: AbstractSet[str] = frozenset()) -> Supplied:
    """Fill the plan's quotas: the first supplier is asked for everything, the next for the shortfall, and so on.

    `seen` holds the `gates.sample_key` of samples that earlier rounds accepted; nothing is accepted twice. A shortfall
    of the last supplier is reported, never padded. Raises ModelUnavailable when models did not answer more than half
    of one supplier's slots: what the others gave must not hide it.
    """
    missing = {cell: quota for cell, quota in plan.quotas.items() if quota}
    so_far = Supplied((), (), 0, missing, "quota", 0)
    for supplier in suppliers:
        if so_far.shortfall:
            taken = seen | {sample_key(sample) for sample in so_far.samples}
            part = await supplier.fill(plan, so_far.shortfall, taken)
            _require_answers(part, supplier.name)
            so_far = _merged(so_far, part, supplier.name)
    return so_far


def _require_answers(part: Supplied, name: str) -> None:
    unanswered = [r for r in part.rejections if r.gate in ("outage", "refused_by_endpoint")]
    if 2 * len(unanswered) > part.proposed:
        raise ModelUnavailable(f"supply: {name}: {len(unanswered)} of {part.proposed} slots: {unanswered[0].reason}")


def _merged(so_far: Supplied, part: Supplied, name: str) -> Supplied:
    """Put a supplier's slots behind those of the suppliers before it."""
    assert part.proposed == len(part.samples) + len(part.rejections), f"{name} lost a slot"
    first = max([so_far.proposed, *(rejection.slot + 1 for rejection in so_far.rejections)])
    shortfall = shortfall_of(so_far.shortfall, part.samples)
    assert all(n > 0 for n in shortfall.values()), f"{name} gave more than was wanted"
    return Supplied(
        samples=so_far.samples + part.samples,
        rejections=so_far.rejections + tuple(replace(r, slot=first + r.slot) for r in part.rejections),
        proposed=so_far.proposed + part.proposed,
        shortfall=shortfall,
        closed_by=part.closed_by if shortfall else "quota",
        calls=so_far.calls + part.calls,
        images=so_far.images + part.images,
        by_supplier={**so_far.by_supplier, name: SupplierYield(part.proposed, len(part.samples), part.calls)},
    )


def shortfall_of(wanted: Mapping[str, int], samples: Sequence[Sample]) -> dict[str, int]:
    """Count per cell what the samples leave missing, below 0 where there are too many; full cells are left out."""
    accepted = Counter(sample.provenance.cell for sample in samples)
    return {cell: n - accepted[cell] for cell, n in wanted.items() if n != accepted[cell]}


def settle(
    outcomes: Mapping[int, Outcome], quotas: Mapping[str, int], seen: AbstractSet[str]
) -> tuple[tuple[Sample, ...], tuple[Rejection, ...]]:
    """Decide in slot order, so that arrival does not matter: no duplicate, and no cell above its quota."""
    samples: list[Sample] = []
    rejections: list[Rejection] = []
    keys, accepted = set(seen), Counter[str]()
    for slot in sorted(outcomes):
        outcome = outcomes[slot]
        if isinstance(outcome, Rejection):
            rejections.append(outcome)
            continue
        sample, cell = outcome.sample, outcome.sample.provenance.cell
        if (key := sample_key(sample)) in keys:
            rejections.append(Rejection(slot, "duplicate", DUPLICATE, cell, sample))
        elif accepted[cell] >= quotas.get(cell, 0):
            rejections.append(Rejection(slot, "quota", "earlier slots filled the cell", cell, sample))
        else:
            keys.add(key)
            accepted[cell] += 1
            samples.append(sample)
    return tuple(samples), tuple(rejections)
