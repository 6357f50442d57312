from collections import Counter
from dataclasses import replace

import pytest
from builders import make_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from dpe_ray.errors import ModelUnavailable
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.stage import settle, supply
from dpe_ray.supply.supplier import Supplied, SupplierYield
from dpe_ray.types import Candidate, CellPlan, DataPlan, Provenance, Rejection

PLAN = DataPlan((CellPlan("a", "x", 0.5, 3, ""), CellPlan("b", "y", 0.5, 2, ""), CellPlan("c", "z", 0.0, 0, "")), 5)


def sample(cell, question):
    return replace(make_sample(question), provenance=Provenance("generated", cell=cell))


class Shelf:
    """A supplier that has some samples per cell and refuses every second slot."""

    def __init__(self, name, closed_by="exhausted", **stock):
        self.name, self.closed_by = name, closed_by
        self.stock = {"a/x": stock.get("a", 0), "b/y": stock.get("b", 0)}
        self.asked = []

    async def fill(self, plan, wanted, seen):
        self.asked.append((dict(wanted), frozenset(seen)))
        given = {cell: min(n, self.stock[cell]) for cell, n in wanted.items()}
        samples = tuple(sample(cell, f"{self.name} {cell} {i}") for cell, n in given.items() for i in range(n))
        rejections = tuple(Rejection(2 * i + 1, "leak", "told") for i in range(len(samples) + 1))
        missing = {cell: n - given[cell] for cell, n in wanted.items() if n > given[cell]}
        calls = 2 * len(samples)
        return Supplied(samples, rejections, len(samples) + len(rejections), missing, self.closed_by, calls)


async def test_the_second_supplier_is_asked_for_the_shortfall_of_the_first():
    first, second = Shelf("retrieve", a=1, b=2), Shelf("annotate", a=9)
    got = await supply(PLAN, [first, second], {"old"})
    assert first.asked == [({"a/x": 3, "b/y": 2}, {"old"})]
    (wanted, seen), *more = second.asked
    assert (wanted, more) == ({"a/x": 2}, [])
    assert seen == {"old"} | {sample_key(s) for s in got.samples[:3]}
    assert (got.shortfall, got.closed_by, got.calls) == ({}, "quota", 10)
    assert got.by_supplier == {"retrieve": SupplierYield(7, 3, 6), "annotate": SupplierYield(5, 2, 4)}


async def test_proposed_is_accepted_plus_rejections_over_all_suppliers():
    got = await supply(PLAN, [Shelf("retrieve", a=1), Shelf("annotate", b=1)])
    assert got.proposed == len(got.samples) + len(got.rejections) == sum(y.proposed for y in got.by_supplier.values())
    assert len(got.samples) == sum(y.accepted for y in got.by_supplier.values()) == 2
    assert got.shortfall == {"a/x": 2, "b/y": 1}


class Silent:
    """A supplier whose slots end as its gates say."""

    name = "annotate"

    def __init__(self, *gates, accepted=0):
        self.gates, self.accepted = gates, accepted

    async def fill(self, plan, wanted, seen):
        samples = tuple(sample("b/y", f"found {i}") for i in range(self.accepted))
        rejections = tuple(Rejection(i, gate, "endpoint is down") for i, gate in enumerate(self.gates))
        return Supplied(samples, rejections, len(samples) + len(rejections), {}, "exhausted", 0)


@pytest.mark.parametrize("gate", ["outage", "refused_by_endpoint"])
@pytest.mark.parametrize("accepted", [0, 1])
async def test_a_model_that_is_down_ends_the_stage_however_much_other_suppliers_gave(gate, accepted):
    silent = Silent(gate, gate, gate, accepted=accepted)
    with pytest.raises(ModelUnavailable, match=rf"annotate: 3 of {3 + accepted} slots: endpoint is down"):
        await supply(PLAN, [Shelf("retrieve", a=3), silent])


async def test_a_few_outages_are_rejections():
    got = await supply(PLAN, [Shelf("retrieve", a=3), Silent("outage", "leak")])
    assert Counter(rejection.gate for rejection in got.rejections)["outage"] == 1


async def test_slots_stay_unique_and_in_order_over_suppliers():
    got = await supply(PLAN, [Shelf("retrieve", a=2), Shelf("construct"), Shelf("annotate", b=1)])
    slots = [rejection.slot for rejection in got.rejections]
    assert slots == sorted(set(slots))
    assert len(slots) == 6


async def test_nobody_is_asked_for_what_is_there():
    first, second = Shelf("retrieve", a=3, b=2), Shelf("annotate")
    got = await supply(PLAN, [first, second])
    assert second.asked == []
    assert list(got.by_supplier) == ["retrieve"]
    empty = await supply(DataPlan((), 0), [first])
    assert (empty.proposed, empty.closed_by, len(first.asked)) == (0, "quota", 1)


async def test_the_last_supplier_says_what_closed_supply():
    got = await supply(PLAN, [Shelf("retrieve"), Shelf("annotate", closed_by="budget", a=1)])
    assert (got.closed_by, got.shortfall) == ("budget", {"a/x": 2, "b/y": 2})


async def test_a_supplier_that_gives_too_much_is_a_broken_invariant():
    class Generous(Shelf):
        async def fill(self, plan, wanted, seen):
            return await super().fill(plan, Counter(wanted) + Counter({"a/x": 1}), seen)

    with pytest.raises(AssertionError, match="more than was wanted"):
        await supply(PLAN, [Generous("retrieve", a=4, b=2)])


def candidate(slot, cell, question):
    sample = make_sample(question)
    return Candidate(slot, replace(sample, provenance=Provenance("generated", cell=cell)))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=20), st.randoms(use_true_random=False))
def test_settling_does_not_depend_on_arrival_and_keeps_every_quota(drafts, rng):
    outcomes = {slot: candidate(slot, cell, f"question {number}") for slot, (cell, number) in enumerate(drafts)}
    quotas = {"a": 2, "b": 1}
    order = list(outcomes)
    rng.shuffle(order)
    samples, rejections = settle({slot: outcomes[slot] for slot in order}, quotas, set())
    assert (samples, rejections) == settle(outcomes, quotas, set())
    assert len(samples) + len(rejections) == len(outcomes)
    assert all(sum(s.provenance.cell == cell for s in samples) <= n for cell, n in quotas.items())
    assert len({sample_key(s) for s in samples}) == len(samples)
