from dataclasses import replace
from functools import partial

import pytest
from builders import make_image_ref, make_sample

from dpe_ray.errors import ModelUnavailable, PoolError
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.retrieve import supplier as module
from dpe_ray.supply.retrieve.filling import fixed_k
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.supply.retrieve.supplier import RetrieveSupplier
from dpe_ray.types import CellPlan, DataPlan

CHART, MAP = "chart_graph/read_axis", "map/compass_direction"
SKILLS = ["reading the axis of a chart", "finding a compass direction", "counting objects", "naming a colour"]


@pytest.fixture
def support():
    """40 samples by id, ten per skill; with their skills in words."""
    samples = [
        make_sample(f"Question {i}?", image=make_image_ref(f"image-{i}"), skills=(SKILLS[i % 4],)) for i in range(40)
    ]
    return {sample.id: sample for sample in samples}


def plan_of(chart=0, compass=0, queries=((), ())):
    cells = (
        CellPlan("chart_graph", "read_axis", 0.5, chart, "", queries[0]),
        CellPlan("map", "compass_direction", 0.5, compass, "", queries[1]),
    )
    return DataPlan(cells, chart + compass)


def supplier_of(support, **options):
    documents = {id_: sample.skills[0] for id_, sample in support.items()}
    return RetrieveSupplier(ready(index_words(documents), support), **({"round": 2, "gates": {}} | options))


def ready(ranker, samples):
    async def support():
        return ranker, samples

    return support


async def fill(supplier, plan, wanted=None, seen=frozenset()):
    got = await supplier.fill(plan, plan.quotas if wanted is None else wanted, seen)
    assert got.proposed == len(got.samples) + len(got.rejections)
    assert sorted(r.slot for r in got.rejections) == sorted({r.slot for r in got.rejections})
    return got


async def test_cells_get_samples_of_the_skill_they_lack(support):
    got = await fill(supplier_of(support), plan_of(5, 3))
    assert {(s.provenance.cell, s.skills[0]) for s in got.samples} == {(CHART, SKILLS[0]), (MAP, SKILLS[1])}
    assert {(s.provenance.source, s.provenance.round) for s in got.samples} == {("retrieved", 2)}
    assert (len(got.samples), got.shortfall, got.closed_by, got.calls) == (8, {}, "quota", 0)


async def test_queries_come_before_the_name_of_the_skill(support):
    got = await fill(supplier_of(support), plan_of(4, queries=(("counting objects", "naming a colour"), ())))
    assert sorted(s.skills[0] for s in got.samples) == [SKILLS[2]] * 2 + [SKILLS[3]] * 2


async def test_only_what_is_still_wanted_is_filled(support):
    got = await fill(supplier_of(support), plan_of(5, 3), wanted={CHART: 2})
    assert [s.provenance.cell for s in got.samples] == [CHART, CHART]


async def test_a_shortfall_is_reported_and_never_padded(support):
    got = await fill(supplier_of(support), plan_of(12, 3))
    assert (got.shortfall, got.closed_by) == ({CHART: 2}, "exhausted")
    assert [s.provenance.cell for s in got.samples].count(CHART) == 10


async def test_smaller_budgets_are_nested_in_larger_ones(support):
    supplier = supplier_of(support)
    kept = [{s.id for s in (await fill(supplier, plan_of(n, n))).samples} for n in (1, 4, 8)]
    assert kept[0] < kept[1] < kept[2]


async def test_forbidden_images_and_validation_items_are_never_given(support):
    charts = [s for s in support.values() if s.skills[0] == SKILLS[0]]
    forbidden = {charts[0].id, charts[1].images[0].sha256}
    got = await fill(supplier_of(support, forbidden=forbidden), plan_of(10))
    assert {s.id for s in got.samples} == {s.id for s in charts[2:]}
    assert [(r.gate, r.cell) for r in got.rejections] == [("forbidden", CHART)] * 2


async def test_every_gates_refusals_are_counted_under_its_name(support):
    charts = [s.id for s in support.values() if s.skills[0] == SKILLS[0]]
    gates = {
        "contamination": lambda s: "too near" if s.id == charts[3] else None,
        "format": lambda s: "no rule can grade it" if s.id in charts[3:5] else None,
    }
    got = await fill(supplier_of(support, gates=gates), plan_of(10))
    assert sorted((r.gate, r.sample.id) for r in got.rejections) == [
        ("contamination", charts[3]),
        ("format", charts[4]),
    ]
    assert (len(got.samples), got.shortfall) == (8, {CHART: 2})


async def test_an_image_that_cannot_be_read_is_a_rejection_of_its_sample(support):
    broken = next(iter(support))

    def gate(sample):
        if sample.id == broken:
            raise PoolError("image /nowhere: cannot be read")
        return None

    got = await fill(supplier_of(support, gates={"contamination": gate}), plan_of(10))
    assert [(r.sample.id, r.reason) for r in got.rejections] == [(broken, "image /nowhere: cannot be read")]


async def test_the_same_question_about_an_image_is_not_given_twice(support):
    first, second = [s for s in support.values() if s.skills[0] == SKILLS[0]][:2]
    other = replace(first, options=("red", "blue"), question=first.question.upper())
    got = await fill(supplier_of(support | {other.id: other}), plan_of(10), seen={sample_key(second)})
    assert [r.gate for r in got.rejections] == ["duplicate", "duplicate"]
    assert len({sample_key(s) for s in got.samples} | {sample_key(second)}) == 10


async def test_a_ranking_that_was_cut_is_asked_deeper(support, monkeypatch):
    monkeypatch.setattr(module, "FIRST_HITS", 1)
    seen_by_gate = []
    shallow = await fill(supplier_of(support, gates={"spy": lambda s: seen_by_gate.append(s.id)}), plan_of(9, 9))
    monkeypatch.setattr(module, "FIRST_HITS", 1000)
    assert shallow == await fill(supplier_of(support, gates={"spy": lambda s: None}), plan_of(9, 9))
    assert len(seen_by_gate) == len(set(seen_by_gate)) == shallow.proposed


async def test_fixed_k_leaves_what_lies_beyond_k(support):
    got = await fill(supplier_of(support, filling=partial(fixed_k, k=3)), plan_of(5))
    assert (len(got.samples), got.shortfall) == (3, {CHART: 2})


async def test_an_outage_of_the_embedder_is_no_shortfall(support):
    class Down:
        async def rank(self, queries, limit):
            raise ModelUnavailable("models.embedder: did not answer")

    with pytest.raises(ModelUnavailable):
        await fill(RetrieveSupplier(ready(Down(), support), round=1, gates={}), plan_of(3))


async def test_nothing_wanted_is_nothing_proposed(support):
    got = await fill(supplier_of(support), plan_of(5), wanted={})
    assert (got.proposed, got.shortfall, got.closed_by) == (0, {}, "quota")
