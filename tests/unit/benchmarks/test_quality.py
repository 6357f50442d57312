from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from dpe_ray.taxonomy import load_taxonomy

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import diagnosis_quality

    return diagnosis_quality


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import real_answers

    return real_answers


def test_ours_beats_the_tiers_by_the_stated_margins_on_simulated_students(simulated: ModuleType) -> None:
    for truths in simulated.TRUTHS:
        rows = simulated.setting(24, truths, "lognormal", 40, np.random.default_rng(1))
        met = simulated.targets_met(rows)
        assert met["accuracy"] <= simulated.TARGETS["accuracy"]
        assert met["mixture"] <= simulated.TARGETS["mixture"]


def test_the_interval_rule_takes_a_weak_group_whole_and_a_weak_cell_alone(simulated: ModuleType) -> None:
    n = np.full(9, 30)
    _, mixture = simulated.interval_rule(n, np.array([5, 5, 5, 28, 28, 5, 28, 28, 28]))
    assert mixture == pytest.approx([0.25, 0.25, 0.25, 0, 0, 0.25, 0, 0, 0])


def test_the_interval_rule_spreads_over_all_items_when_nothing_is_weak(simulated: ModuleType) -> None:
    n = np.array([10, 20, 30])
    accuracy, mixture = simulated.interval_rule(n, n // 2)
    assert mixture == pytest.approx(n / 60)
    assert accuracy == pytest.approx([0.5, 0.5, 0.5])


def test_every_kind_maps_to_a_category_of_dpe() -> None:
    kinds = yaml.safe_load((BENCHMARKS / "mmmu_pro_kinds.yaml").read_text())
    assert set(kinds.values()) <= set(load_taxonomy().categories)


def test_ours_halves_the_error_of_a_random_draw_from_a_finite_set(real: ModuleType) -> None:
    rng = np.random.default_rng(5)
    sizes = dict(zip("abcdefgh", (500, 400, 300, 200, 120, 40, 35, 30), strict=True))
    categories = [name for name, size in sizes.items() for _ in range(size)]
    right = np.concatenate([rng.random(size) < rng.uniform(0.35, 0.75) for size in sizes.values()]).astype(int)
    table, rows = real.quality(categories, right, 60, 0)
    ours = next(row for row in rows if row["method"] == real.OURS)
    assert sum(cell["asked by ours"] for cell in table.values()) == pytest.approx(200)
    assert ours["of random raw"] <= 0.5
    assert ours["of stratified raw"] <= 1
    assert ours["of tiers'"] <= 0.5
