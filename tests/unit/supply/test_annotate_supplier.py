import json
from random import Random

import pytest
from builders import make_image_ref

from dpe_ray.rounds.local import LocalMapper
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import CellPlan, DataPlan, Rejection

CELL, OTHER = "geometric/shape_colour", "map/landmark_direction"


def plan_of(**quotas):
    cells = {CELL: quotas.get("cell", 0), OTHER: quotas.get("other", 0)}
    parts = tuple(CellPlan(*cell.split("/"), 0.5, n, f"exercise {cell}") for cell, n in cells.items() if n)
    return DataPlan(parts, sum(cells.values()))


def images(count):
    return [make_image_ref(f"image-{i}") for i in range(count)]


async def run(team, plan, pool, *, calls=1000, cap=4.0, mapper=None, slots=1000, seen=frozenset(), concurrency=16):
    async def book(wanted):
        return Quotas(wanted, cap, calls)

    supplier = AnnotateSupplier(pool, slots, team.config(), book, mapper or LocalMapper(), concurrency=concurrency)
    got = await supplier.fill(plan, plan.quotas, seen)
    assert got.proposed == len(got.samples) + len(got.rejections)
    return got


async def test_supply_stops_when_the_quotas_are_full(team):
    got = await run(team, plan_of(cell=3), images(50), concurrency=1)
    assert (len(got.samples), got.proposed, got.shortfall, got.closed_by) == (3, 3, {}, "quota")
    assert len(team.asked("planner")) == 3
    assert "exercise" in team.asked("planner")[0].messages[0].text


async def test_what_runs_beyond_the_quota_is_never_a_sample(team):
    got = await run(team, plan_of(cell=3), images(50), concurrency=8)
    assert len(got.samples) == 3


async def test_a_small_pool_leaves_a_reported_shortfall(team):
    got = await run(team, plan_of(cell=5, other=2), images(3))
    assert (got.shortfall, got.closed_by, got.proposed) == ({CELL: 2, OTHER: 2}, "pool", 3)


async def test_a_large_pool_is_used_up_to_the_slots_of_a_round(team):
    pool = iter(images(10))
    got = await run(team, plan_of(cell=5), pool, slots=3)
    assert (got.shortfall, got.closed_by, got.proposed) == ({CELL: 2}, "slots", 3)
    assert len(list(pool)) == 7


async def test_no_image_is_read_behind_the_last_that_is_needed(team):
    pool = iter(images(50))
    await run(team, plan_of(cell=3), pool, concurrency=2)
    assert 50 - len(list(pool)) <= 3 + 2


async def test_a_cell_that_nothing_survives_is_given_up(team):
    team.change("validator", visible=False)
    got = await run(team, plan_of(cell=2), images(50), cap=2.0, concurrency=1)
    assert (got.shortfall, got.closed_by, got.proposed) == ({CELL: 2}, "exhausted", 4)


async def test_a_spent_budget_closes_supply_with_what_it_has(team):
    got = await run(team, plan_of(cell=10), images(50), calls=8, concurrency=1)
    assert (len(got.samples), got.closed_by, got.calls) == (2, "budget", 8)
    assert got.shortfall == {CELL: 8}


async def test_no_more_slots_begin_than_the_budget_lets_end(team):
    got = await run(team, plan_of(cell=10), images(50), calls=11, concurrency=6)
    assert (len(got.samples), got.closed_by, got.calls) == (2, "budget", 8)
    assert len(team.asked("planner")) == 2
    assert {r.gate for r in got.rejections} <= {"budget"}


async def test_images_that_cannot_be_read_are_counted_with_their_reason(team):
    broken = Rejection(0, "image", "no PNG")
    got = await run(team, plan_of(cell=2), [broken, *images(2), broken], concurrency=1)
    assert [r.slot for r in got.rejections] == [0]
    assert got.rejections[0].reason == "no PNG"


async def test_everything_is_counted_under_outages(team):
    good = team.says["validator"]
    dead = {image.sha256 for i, image in enumerate(images(40)) if i % 3 == 0}
    fail = team.fail

    def sometimes(request):
        if request.messages[0].images[0].sha256 not in dead:
            return good(request)
        fail("nobody")
        return team.says["nobody"](request)

    team.says["validator"] = sometimes
    got = await run(team, plan_of(cell=40), images(40), concurrency=7)
    assert got.proposed == 40
    assert {r.gate for r in got.rejections} == {"outage"}
    assert (len(got.samples), len(got.rejections)) == (26, 14)
    assert got.shortfall == {CELL: 14}


async def test_a_total_outage_gives_no_sample_and_no_wrong_answer(team):
    team.fail("planner")
    got = await run(team, plan_of(cell=4), images(10))
    assert (got.samples, got.proposed, {r.gate for r in got.rejections}) == ((), 10, {"outage"})


class Echo(LocalMapper):
    """Delivers twice and out of order."""

    async def map(self, spec, rows):
        results = [row async for row in super().map(spec, rows)]
        Random(0).shuffle(results)
        for row in results + results:
            yield row


async def test_rows_that_come_twice_or_late_count_once(team):
    got = await run(team, plan_of(cell=20), images(12), mapper=Echo())
    assert (got.proposed, len(got.samples)) == (12, 12)
    shas = [sample.images[0].sha256 for sample in got.samples]
    assert shas == [image.sha256 for image in images(12)]


async def test_one_image_twice_gives_one_sample(team):
    got = await run(team, plan_of(cell=4), [*images(2), *images(2)])
    assert [r.gate for r in got.rejections] == ["duplicate", "duplicate"]
    assert got.shortfall == {CELL: 2}


async def test_a_second_lap_of_the_pool_takes_no_place_from_new_images(team):
    got = await run(team, plan_of(cell=4), [*images(2), *images(4)], concurrency=1)
    assert [(r.slot, r.gate) for r in got.rejections] == [(2, "duplicate"), (3, "duplicate")]
    assert (len(got.samples), got.shortfall, got.closed_by) == (4, {}, "quota")


async def test_earlier_rounds_are_not_repeated(team):
    first = await run(team, plan_of(cell=2), images(2))
    again = await run(team, plan_of(cell=2), images(2), seen={sample_key(s) for s in first.samples})
    assert again.samples == ()
    assert {r.gate for r in again.rejections} == {"duplicate"}


async def test_the_planner_sees_only_cells_that_are_open(team):
    team.says["planner"] = lambda request: json.dumps(
        {
            "image_category": "x",
            "question_type": "text",
            "plan": "",
            "cell": OTHER if OTHER in request.messages[0].text else CELL,
        }
    )
    team.says["validator"] = lambda request: json.dumps(
        dict.fromkeys(("visible", "answerable", "unambiguous", "answer_correct"), True)
        | {"image_category": request.messages[0].text.split("Category: ")[1].split("\n")[0]}
    )
    got = await run(team, plan_of(cell=1, other=1), images(9), concurrency=1)
    assert [s.provenance.cell for s in got.samples] == [OTHER, CELL]


async def test_a_plan_without_quotas_asks_nobody(team):
    got = await run(team, DataPlan((), 0), images(3))
    assert (got.proposed, got.closed_by, team.chat.requests) == (0, "quota", [])


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_no_quota_is_ever_exceeded(team, concurrency):
    got = await run(team, plan_of(cell=5), images(30), concurrency=concurrency)
    assert len(got.samples) == 5
