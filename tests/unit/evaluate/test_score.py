import pytest
from builders import make_graded, make_image_ref, make_sample

from dpe_ray.errors import PoolError
from dpe_ray.evaluate.score import score
from dpe_ray.evaluate.suites import Suite, check_disjoint, suite_of


def graded(category: str, *kinds: str) -> list[object]:
    return [make_graded(make_sample(f"{category} {i}?", category=category), kind) for i, kind in enumerate(kinds)]


ITEMS = [
    *graded("map", "correct", "correct", "wrong", "unparsable"),
    *graded("medical", "correct", "not_judged"),
    *graded("diagram", "not_judged"),
]


def test_macro_is_the_mean_over_categories_with_judged_items() -> None:
    result = score(ITEMS)  # type: ignore[arg-type]
    assert result.macro == pytest.approx((0.5 + 1.0) / 2)
    assert (result.n, result.not_judged) == (5, 2)
    assert set(result.by_category) == {"map", "medical"}
    assert result.by_category["map"].n == 4
    assert result.by_category["map"].low == pytest.approx(0.150, abs=1e-3)


def test_nothing_judged_scores_zero_on_nothing() -> None:
    result = score(graded("map", "not_judged"))  # type: ignore[arg-type]
    assert (result.n, result.macro, result.by_category) == (0, 0.0, {})


def test_suites_are_scored_apart() -> None:
    map_items = tuple(g.sample for g in ITEMS[:4])  # type: ignore[attr-defined]
    names = suite_of([Suite("one", map_items), Suite("two", (ITEMS[4].sample,))])  # type: ignore[attr-defined]
    result = score(ITEMS, names)  # type: ignore[arg-type]
    assert {name: s.accuracy for name, s in result.by_suite.items()} == {"one": 0.5, "two": 1.0}


def test_an_item_in_two_suites_is_refused() -> None:
    with pytest.raises(PoolError, match="is in one and two"):
        suite_of([Suite("one", (make_sample(),)), Suite("two", (make_sample(),))])


def test_sets_that_share_an_image_are_refused_by_name() -> None:
    shared = make_image_ref("shared")
    sets = {"probe": [make_sample("a?", image=shared)], "gate": [make_sample("b?", image=shared)], "final": []}
    with pytest.raises(PoolError, match="probe and gate share 1 images"):
        check_disjoint(sets)
    other = {"probe": [make_sample(image=shared)], "gate": [make_sample(image=make_image_ref("other"))]}
    check_disjoint(other)
