import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpe_ray.plan.mixture import mixture, permuted, with_floor

WEIGHTS = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 100), min_size=1, max_size=15)


def test_weights_sum_to_one_in_proportion() -> None:
    weights = mixture({"a/x": 2.0, "a/y": 1.0, "b/z": 0.5}, {"a/x": "a", "a/y": "a", "b/z": "b"}, 0.0)
    assert weights == pytest.approx({"a/x": 2 / 3.5, "a/y": 1 / 3.5, "b/z": 0.5 / 3.5})


def test_a_category_that_weighs_nothing_shares_the_floor_evenly() -> None:
    weights = mixture({"a/x": 2.0, "b/y": 0.0, "b/z": 0.0}, {"a/x": "a", "b/y": "b", "b/z": "b"}, 0.1)
    assert weights == pytest.approx({"a/x": 0.9, "b/y": 0.05, "b/z": 0.05})


@given(WEIGHTS, st.floats(0, 1))
@example({"a": 5e-324, "b": 0.0}, 0.25)
def test_floored_weights_sum_to_one_and_respect_the_floor(raw: dict[str, float], floor: float) -> None:
    weights = with_floor(raw, floor)
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= min(floor, 1 / len(raw)) - 1e-9


@given(WEIGHTS, st.integers(0, 9))
def test_a_permutation_deals_out_the_same_weights(raw: dict[str, float], seed: int) -> None:
    assert sorted(permuted(raw, seed).values()) == sorted(raw.values())


def test_a_permutation_goes_by_seed_and_not_by_the_order_of_the_cells() -> None:
    raw = {name: float(i) for i, name in enumerate("abcdefgh")}
    assert permuted(raw, 1) == permuted(dict(reversed(raw.items())), 1)
    assert permuted(raw, 1) != permuted(raw, 2)
