"""Supply that must repeat: whatever ends first, and however far it came before, the outcome is the same."""

import asyncio
import json
from dataclasses import replace
from functools import partial
from random import Random

import pytest
from builders import make_image_ref

from dpe_ray.ports import QuotaState
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.annotate.waves import LARGEST, wave_size
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import CellPlan, DataPlan, Rejection

CELL, OTHER = "geometric/shape_colour", "map/landmark_direction"
PLAN = DataPlan(tuple(CellPlan(*cell.split("/"), 0.5, 3, "") for cell in (CELL, OTHER)), 6)


class Shuffled(LocalMapper):
    """Slots begin, end and are delivered in an order of chance, some of them twice."""

    def __init__(self, seed):
        self.chance, self.waves = Random(seed), []

    async def map(self, spec, rows):
        slow = replace(spec, factory=partial(delayed, spec.factory, self.chance))
        ended = [row async for row in super().map(slow, rows)]
        self.waves.append(len(ended))
        again = [row for row in ended if self.chance.random() < 0.2]
        for row in self.chance.sample(ended + again, len(ended) + len(again)):
            yield row


def delayed(factory, chance, job):
    work = factory(job)

    async def later(row):
        for _ in range(chance.randrange(9)):
            await asyncio.sleep(0)
        return await work(row)

    return later


def images(count):
    """One in seven cannot be read, and one in five came before."""
    pool = [make_image_ref(f"image-{i - i % 5 % 4 // 3}") for i in range(count)]
    return [Rejection(0, "image", "no PNG") if i % 7 == 6 else image for i, image in enumerate(pool)]


def choosy(team):
    """Serves both cells, with one image in three of no use."""

    def plan(request):
        kind = int(request.messages[0].images[0].sha256[-8:], 16)
        offered = [cell for cell in (CELL, OTHER) if cell in request.messages[0].text]
        cell = offered[kind % len(offered)] if kind % 3 else ""
        return json.dumps({"image_category": "x", "question_type": "text", "plan": "", "cell": cell})

    def check(request):
        category = request.messages[0].text.split("Category: ")[1].split("\n")[0]
        kept = dict.fromkeys(("visible", "answerable", "unambiguous", "answer_correct"), True)
        return json.dumps(kept | {"image_category": category})

    team.says["planner"], team.says["validator"] = plan, check
    return team


async def run(team, mapper, *, in_waves=True, calls=1000, concurrency=2, pool=60, workers=(1, 1)):
    async def book(wanted):
        return Quotas(wanted, 4.0, calls, team.config().most_calls)

    supplier = AnnotateSupplier(images(pool), 100, team.config(), book, mapper, workers, concurrency, in_waves=in_waves)
    got = await supplier.fill(PLAN, PLAN.quotas, frozenset())
    assert got.proposed == len(got.samples) + len(got.rejections)
    return got


def outcome(got):
    """All but the names of the calls, which the scripted model numbers as they come."""
    samples = [(s.id, s.provenance.cell) for s in got.samples]
    rejections = [(r.slot, r.gate, r.reason, r.cell) for r in got.rejections]
    return samples, rejections, got.proposed, got.shortfall, got.closed_by, got.calls, got.images


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("calls", [1000, 40, 25])
async def test_arrival_decides_nothing(team, seed, calls):
    ordered = await run(choosy(team), LocalMapper(), calls=calls)
    assert ordered.samples
    assert outcome(await run(choosy(team), Shuffled(seed), calls=calls)) == outcome(ordered)


async def test_quotas_are_filled_and_what_came_too_late_is_counted(team):
    mapper = Shuffled(0)
    got = await run(choosy(team), mapper)
    assert (got.shortfall, got.closed_by) == ({}, "quota")
    assert len(got.samples) == 6
    assert {r.gate for r in got.rejections} >= {"no_open_cell", "image"}
    assert len(mapper.waves) > 1
    assert max(mapper.waves) <= LARGEST * 2


async def test_the_number_of_workers_changes_nothing(team):
    few, many = [await run(choosy(team), Shuffled(3), workers=(1, workers)) for workers in (1, 9)]
    assert outcome(few) == outcome(many)


@pytest.mark.parametrize("calls", [15, 29, 40])
async def test_no_slot_begins_that_the_budget_might_cut_off(team, calls):
    got = await run(choosy(team), Shuffled(1), calls=calls)
    assert got.closed_by == "budget"
    assert got.calls <= calls
    assert "budget" not in {r.gate for r in got.rejections}


async def test_a_pool_that_ends_leaves_no_slot_open(team):
    got = await run(choosy(team), Shuffled(2), pool=5)
    assert (got.closed_by, got.proposed, got.images) == ("pool", 5, 5)


@pytest.mark.parametrize(
    ("accepted", "ended", "most", "size"), [(0, 0, 100, 20), (5, 10, 100, 10), (0, 30, 100, 100), (9, 9, 100, 2)]
)
def test_a_wave_is_as_large_as_the_yield_so_far_says(accepted, ended, most, size):
    state = QuotaState({CELL: 10}, {CELL: accepted}, {}, {}, {}, ended, 0, "", False)
    assert wave_size(state, most) == size
