import json
from random import Random

import pytest

from dpe_ray.errors import BudgetExceeded
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.supply.construct.order import OrderConfig
from dpe_ray.supply.construct.supplier import ConstructSupplier
from dpe_ray.supply.construct.waves import Course
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.quota_book import CALLS_PER_SLOT, Quotas
from dpe_ray.supply.stage import supply
from dpe_ray.types import CellPlan, DataPlan, Rejection

CHART, SHAPES, TILES, MIXED = (
    "chart_graph/read_value",
    "geometric/count_shapes",
    "artistic/count_colour",
    "mixed/count_pasted",
)


def plan_of(**quotas):
    names = {
        "chart": CHART,
        "shapes": SHAPES,
        "tiles": TILES,
        "clock": "everyday_object/read_time",
        "mixed": MIXED,
        "scene": "natural_scene/x",
        "odd": "map/smell",
    }
    cells = tuple(CellPlan(*names[key].split("/"), 0.1, n, "exercise it") for key, n in quotas.items())
    return DataPlan(cells, sum(quotas.values()))


class Books:
    """Starts books and keeps the last."""

    def __init__(self, cap=4.0):
        self.cap = cap

    async def __call__(self, wanted):
        self.last = Quotas(wanted, self.cap, 10**9)
        return self.last


class Late(LocalMapper):
    """Delivers everything twice, in another order."""

    async def map(self, spec, rows):
        results = [row async for row in super().map(spec, rows)]
        Random(1).shuffle(results)
        for row in results + results:
            yield row


async def run(config, plan, *, mapper=None, books=None, seen=frozenset(), **values):
    books = books or Books()
    supplier = ConstructSupplier(config, books, mapper or LocalMapper(), **values)
    got = await supplier.fill(plan, plan.quotas, seen)
    assert got.proposed == len(got.samples) + len(got.rejections)
    slots = {r.slot for r in got.rejections}
    assert len(slots) == len(got.rejections)
    state = await books.last.state()
    accepted = {cell: sum(s.provenance.cell == cell for s in got.samples) for cell in state.quotas}
    assert state.accepted == accepted
    return got


def plain(crew, **values):
    """No student, no planner."""
    return OrderConfig({}, crew.shelf, pass_rate_samples=0, **values)


async def test_quotas_are_filled_exactly_without_a_teacher(crew):
    got = await run(plain(crew), plan_of(tiles=5, shapes=4))
    assert (len(got.samples), got.shortfall, got.closed_by, got.calls) == (9, {}, "quota", 0)
    assert [s.provenance.cell for s in got.samples].count(TILES) == 5


async def test_one_planner_call_brings_many_accepted_samples(crew, bars):
    crew.samples = [bars(title=f"Rain {n}") for n in range(4)]
    got = await run(crew.config(), plan_of(chart=4), per_call=4)
    assert (len(got.samples), got.calls) == (4, 1)


async def test_a_teacher_call_brings_three_times_what_annotate_gets_at_best(crew):
    """Although half of the parameter sets are unusable; annotate asks four teachers for each sample at the least."""

    def plan(request):
        hour = len(crew.planner.requests)
        minutes = [minute if minute % 2 else 60 + minute for minute in range(8)]
        params = [{"ask": "read_time", "form": "open", "hour": hour, "minute": minute} for minute in minutes]
        return json.dumps({"samples": [{"program": "wall_clock", "params": each} for each in params]})

    crew.planner.script = plan
    got = await run(crew.config(pass_rate_samples=0), plan_of(clock=8), per_call=8)
    assert {r.gate for r in got.rejections} == {"params"}
    assert (len(got.samples), got.calls) == (8, len(crew.planner.requests))
    assert len(got.samples) / got.calls >= 3 / CALLS_PER_SLOT


async def test_arrival_order_and_double_delivery_change_nothing(crew):
    plan = plan_of(tiles=4, shapes=3)
    one = await run(plain(crew), plan, per_call=2)
    other = await run(plain(crew), plan, per_call=2, mapper=Late(), concurrency=1)
    assert (one.samples, one.rejections) == (other.samples, other.rejections)


async def test_another_seed_gives_other_samples(crew):
    one, other = [await run(plain(crew, seed=seed), plan_of(shapes=3)) for seed in (1, 2)]
    assert {s.id for s in one.samples}.isdisjoint(s.id for s in other.samples)


async def test_categories_that_no_program_draws_are_left_to_the_next(crew):
    got = await run(plain(crew), plan_of(scene=3, shapes=1))
    assert (got.shortfall, got.closed_by, got.proposed) == ({"natural_scene/x": 3}, "exhausted", 1)


async def test_a_skill_that_no_program_has_costs_one_slot(crew):
    got = await run(plain(crew), plan_of(odd=30))
    assert ([r.gate for r in got.rejections], got.shortfall) == (["no_program"], {"map/smell": 30})


async def test_a_cell_that_nothing_survives_is_given_up_at_its_cap(crew):
    config = plain(crew, contamination=lambda sample: "too near")
    got = await run(config, plan_of(shapes=2), books=Books(cap=2.0))
    assert (got.proposed, got.shortfall, got.closed_by) == (4, {SHAPES: 2}, "exhausted")


async def test_a_spent_budget_ends_the_calls_and_not_the_supply(crew, bars):
    crew.replies = [BudgetExceeded("spent")]
    got = await run(crew.config(pass_rate_samples=0), plan_of(tiles=20), per_call=4)
    assert (len(got.samples), got.calls, got.closed_by) == (20, 0, "quota")
    assert len(crew.planner.requests) == 1


async def test_what_earlier_rounds_accepted_is_not_made_again(crew):
    first = await run(plain(crew), plan_of(shapes=3))
    again = await run(plain(crew), plan_of(shapes=3), seen={sample_key(s) for s in first.samples}, books=Books(1.0))
    assert (again.samples, [r.gate for r in again.rejections]) == ((), ["duplicate"] * 3)


async def test_pool_images_are_edited_until_there_are_no_more(crew, workshop):
    images = [*workshop.photos, Rejection(0, "image", "broken")]
    got = await run(plain(crew), plan_of(mixed=9), images=images, per_call=2)
    assert (len(got.samples), [r.gate for r in got.rejections], got.closed_by) == (3, ["image"], "pool")


async def test_without_a_pool_nothing_is_edited(crew):
    got = await run(plain(crew), plan_of(mixed=2))
    assert (got.proposed, got.shortfall) == (0, {MIXED: 2})


async def test_a_plan_without_quotas_asks_nobody(crew):
    got = await run(crew.config(), DataPlan((), 0))
    assert (got.proposed, got.closed_by, crew.planner.requests) == (0, "quota", [])


async def test_the_stage_hands_the_shortfall_on(crew):
    got = await supply(plan_of(scene=1, shapes=2), [ConstructSupplier(plain(crew), Books(), LocalMapper())])
    assert (got.shortfall, got.by_supplier["construct"].accepted) == ({"natural_scene/x": 1}, 2)


async def test_the_planner_asks_for_harder_samples_when_all_are_passed(crew, bars):
    told = []

    def plan(request):
        text = request.messages[0].text
        told.append(text.split("(hardest): ")[1].split("\n")[0])
        return json.dumps({"samples": [bars(title=f"Rain {len(told)} {n}") for n in range(2)]})

    crew.planner.script, crew.right = plan, 9
    await run(crew.config(), plan_of(chart=2), books=Books(2.0), per_call=2)
    assert told[0] == "0.50"
    assert told[1] == "0.65"


@pytest.mark.parametrize(("rates", "level"), [([0.9, 1.0], 0.65), ([0.5], 0.5), ([0.0, 0.1], 0.35), ([], 0.5)])
def test_difficulty_follows_the_pass_rate(rates, level):
    course = Course(edits=False)
    course.learn(rates, (0.3, 0.8))
    assert course.level == pytest.approx(level)


@pytest.mark.parametrize(
    ("tried", "accepted", "size"), [(0, 0, 8), (10, 5, 20), (20, 10, 24), (40, 0, 48), (10, 10, 12)]
)
def test_waves_double_up_to_what_failures_demand(tried, accepted, size):
    assert Course(False, tried=tried, accepted=accepted).size(12, per_call=8) == size
