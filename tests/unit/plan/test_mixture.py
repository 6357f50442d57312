import pytest
from builders import make_cell
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.plan.mixture import mixture, tiered, with_floor


@pytest.mark.parametrize(
    ("accuracy", "utility"),
    [(0, 2.0), (0.69, 2.0), (0.70, 1.5), (0.74, 1.5), (0.75, 1.0), (0.84, 1.0), (0.85, 0.8), (0.89, 0.8), (0.9, 0.5)],
)
def test_the_tiers_are_those_of_dpe(accuracy: float, utility: float) -> None:
    assert tiered(accuracy) == utility


def test_weights_are_utilities_over_their_sum() -> None:
    weights = mixture([make_cell("a", "x", 5, 10), make_cell("a", "y", 8, 10), make_cell("b", "z", 10, 10)], 0.0)
    assert weights == pytest.approx({"a/x": 2 / 3.5, "a/y": 1 / 3.5, "b/z": 0.5 / 3.5})


def test_a_category_that_was_never_judged_gets_the_floor() -> None:
    weights = mixture([make_cell("a", "x", 5, 10), make_cell("b", "y", 0, 0), make_cell("b", "z", 0, 0)], 0.1)
    assert weights == pytest.approx({"a/x": 0.9, "b/y": 0.05, "b/z": 0.05})


def test_a_cell_that_was_never_judged_takes_the_accuracy_of_its_category() -> None:
    weights = mixture([make_cell("a", "x", 10, 10), make_cell("a", "y", 0, 0)], 0.0)
    assert weights["a/x"] == weights["a/y"]


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 100), min_size=1, max_size=15), st.floats(0, 1)
)
def test_floored_weights_sum_to_one_and_respect_the_floor(raw: dict[str, float], floor: float) -> None:
    weights = with_floor(raw, floor)
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= min(floor, 1 / len(raw)) - 1e-9
