import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from builders import make_sample

from dpe_ray.config import load_config
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Candidate, CellPlan, DataPlan, Provenance

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SKILLS = ("shape_colour", "count_shape", "spot_cell")
CATEGORIES = ("geometric",) * 8 + ("medical",) * 4


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_budget_arms

    return equal_budget_arms


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_budget_figures

    return equal_budget_figures


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_budget_table

    return equal_budget_table


@pytest.fixture
def suite(figures):
    return figures.Suite(CATEGORIES, tuple(skill for skill in SKILLS for _ in range(4)))


def test_every_prefix_of_the_portions_has_the_mixture_of_the_plan(arms):
    plan = DataPlan(
        (CellPlan("a", "x", 0.75, 96, ""), CellPlan("a", "y", 0.2, 25, ""), CellPlan("b", "z", 0.05, 7, "")), 128
    )
    dealt = Counter()
    first = arms._next(plan, dealt)
    assert first.total() == arms.PORTION
    assert all(abs(first[cell] - quota / 2) <= 1 for cell, quota in plan.quotas.items())
    arms._next(plan, dealt)
    assert dict(dealt) == plan.quotas


def test_categories_weigh_the_same_in_macro_and_items_within_them(suite):
    right = np.array([1.0] * 8 + [0.0] * 4)
    assert right @ suite.macro == pytest.approx(0.5)
    assert right @ suite.of_kinds(["sound"]) == pytest.approx(0.5)


def test_a_difference_that_every_seed_and_item_shows_has_no_width_and_one_that_seeds_dispute_reaches_zero(suite):
    sure = suite.difference(np.full((3, 12), 0.5), suite.macro)
    assert tuple(sure) == pytest.approx((0.5, 0.5, 0.5))
    disputed = suite.difference(np.array([[1.0] * 12, [-0.5] * 12]), suite.macro)
    assert disputed.low < 0 < disputed.high


def test_a_level_is_reached_along_the_line_between_two_budgets_or_never(figures):
    curve = [(0, 0.5), (1000, 0.6), (2000, 0.8)]
    assert figures.calls_to(0.7, curve) == pytest.approx(1500)
    assert figures.calls_to(0.9, curve) is None
    assert figures.calls_to(0.5, curve) == 0


OF_ALL_KINDS = ("shape_colour", "formula_parity", "speck_count", "spot_cell")
SUITE_ROWS = [("geometric" if place < 6 else "medical", OF_ALL_KINDS[place // 3]) for place in range(12)]


def write_cells(folder, cells):
    """Cells as {(arm, seed, budget): number of right items of the twelve}."""
    (folder / "base.json").write_text(json.dumps({"suite": SUITE_ROWS, "right": "0" * 12}))
    for (arm, seed, budget), right in cells.items():
        cell = {"arm": arm, "seed": seed, "budget": budget, "right": ("1" * right).ljust(12, "0"), "samples": 3}
        (folder / f"{arm}-{seed}-{budget}.json").write_text(json.dumps(cell))


def test_arms_are_compared_on_the_seeds_that_both_have_also_between_budgets(figures, tmp_path):
    write_cells(tmp_path, {("uniform", s, b): 3 for s in (1, 2) for b in (2000, 4000)} | {("unified", 2, 2000): 6})
    cells = figures.read(tmp_path)
    assert cells.paired("unified", "uniform", 2000)[0] == [2]
    assert cells.paired("unified", "uniform", 3000) == ([], {})
    assert cells.paired("uniform", "random", 2000) == ([], {})
    write_cells(tmp_path, {("unified", 2, 4000): 12})
    seeds, changes = figures.read(tmp_path).paired("unified", "uniform", 3000)
    assert seeds == [2]
    assert changes["macro"].mean == pytest.approx(6 / 12)


def test_a_partial_table_names_what_is_missing_and_the_seed_of_choice_judges_nothing(tables, tmp_path, monkeypatch):
    cells = {("uniform", s, b): 2 + b // 1000 for s in (0, 1, 2) for b in (2000, 4000)}
    cells |= {("unified", s, 4000): 12 for s in (0, 1)} | {("shuffled", 1, 4000): 1, ("random", 1, 4000): 1}
    write_cells(tmp_path, cells)
    kept = {}
    monkeypatch.setattr(tables, "LARGEST", 4000)
    monkeypatch.setattr(tables.common, "write", lambda name, result: kept.update(result))
    monkeypatch.setattr("sys.argv", ["table", "--out", str(tmp_path), "--seeds", "0", "1", "2"])
    tables.main()
    assert kept["judged_on"] == [1, 2]
    assert {(r["arm"], r["budget"], r["seeds"]) for r in kept["rows"]} >= {("uniform", 2000, 2), ("unified", 4000, 1)}
    won = [r for r in kept["compared"] if r["compared"] == "unified - uniform"]
    assert [(r["at"], r["seeds"], r["macro is"]) for r in won] == [
        ("4000", 1, "one seed only"),
        ("B", 1, "one seed only"),
    ]
    assert "unified at 2000: seeds 1, 2" in kept["missing"]
    assert [(r["at"], r["is"], r["macro"]) for r in kept["equivalence"]][:1] == [("4000", "equivalent", [0, 0, 0])]
    assert {r["seeds"] for r in kept["seed_of_choice"]} == {1}


def test_equivalence_wants_the_whole_interval_within_the_margin(figures):
    assert figures.Difference(0.0, -0.009, 0.009).within(0.01)
    assert not figures.Difference(0.0, -0.012, 0.012).within(0.01)
    assert figures.Difference(-0.2, -0.3, -0.1).told == "worse"
    assert figures.Difference(0.0, -0.012, 0.012).told == "no difference shown"


async def test_what_is_found_pays_for_the_labels_and_what_is_written_for_its_slots_too(arms, monkeypatch):
    monkeypatch.setattr(arms, "Suppliers", lambda *_: SimpleNamespace(make=lambda name, *_: name))
    world = SimpleNamespace(calls=0, labelling_calls=0, mapper=SimpleNamespace(slots=[]))
    world.run = world.sets = world.base = None
    world.machine = lambda: None
    found = [replace(make_sample(f"found {i}?"), provenance=Provenance("retrieved", 1, "a/x")) for i in range(2)]
    written = [replace(make_sample(f"written {i}?"), provenance=Provenance("generated", 1, "a/x")) for i in range(2)]
    fills = [(30, found[:1], written[:1]), (5, found[1:], written[1:])]

    async def supply(plan, makers, seen):
        labels, retrieved, generated = fills.pop(0) if fills else (0, [], [])
        world.labelling_calls += labels
        world.calls += labels + 10 * len(generated)
        world.mapper.slots += [{"slot": i, "calls": 10, "outcome": Candidate(i, s)} for i, s in enumerate(generated)]
        samples = (*retrieved, *generated)
        return Supplied(samples, (), len(samples), {}, "quota", 0)

    monkeypatch.setattr(arms, "supply", supply)
    config = load_config(BENCHMARKS.parent / "jobs" / "unified.yaml")
    stream = await arms.supplied(arms.ARMS["unified"], config, world, arms.undiagnosed(), 100, 8000)
    assert [(p.sample.question, p.calls) for p in stream.samples] == [
        ("found 0?", 130),
        ("written 0?", 140),
        ("found 1?", 145),
        ("written 1?", 155),
    ]
    assert (stream.diagnosis_calls, stream.labelling_calls, stream.calls) == (100, 35, 155)


def test_without_uniforms_largest_budget_no_saturation_is_claimed(tables, figures, tmp_path):
    write_cells(tmp_path, {("uniform", 1, b): 6 for b in (2000, 4000)})
    assert tables.saturation(figures.read(tmp_path)) == {}
    write_cells(tmp_path, {("uniform", 1, 8000): 12})
    assert tables.saturation(figures.read(tmp_path))["calls"] == pytest.approx(4000 + 4000 * 0.9)
