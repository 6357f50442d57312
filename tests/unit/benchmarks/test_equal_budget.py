from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dpe_ray.types import CellPlan, DataPlan

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SKILLS = ("shape_colour", "count_shape", "spot_cell")
CATEGORIES = ("geometric",) * 8 + ("medical",) * 4


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_budget_arms

    return equal_budget_arms


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_budget_table

    return equal_budget_table


@pytest.fixture
def suite(tables):
    return tables.Suite(CATEGORIES, tuple(skill for skill in SKILLS for _ in range(4)))


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


def test_a_level_is_reached_along_the_line_between_two_budgets_or_never(tables):
    curve = [(0, 0.5), (1000, 0.6), (2000, 0.8)]
    assert tables.calls_to(0.7, curve) == pytest.approx(1500)
    assert tables.calls_to(0.9, curve) is None
    assert tables.calls_to(0.5, curve) == 0
