import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpe_ray.plan.quota import largest_remainder

WEIGHTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0.01, 10), min_size=1, max_size=12)


def test_what_is_left_goes_to_the_largest_fractions() -> None:
    assert largest_remainder({"a": 0.47, "b": 0.16, "c": 0.158, "d": 0.12, "e": 0.061, "f": 0.031}, 10) == {
        "a": 5,
        "b": 2,
        "c": 1,
        "d": 1,
        "e": 1,
        "f": 0,
    }


def test_ties_go_by_name() -> None:
    assert largest_remainder({"b": 1, "c": 1, "a": 1}, 4) == {"a": 2, "b": 1, "c": 1}


@given(WEIGHTS, st.integers(0, 2000), st.integers(0, 5))
def test_quotas_sum_exactly_and_nobody_falls_below_the_minimum(weights: dict[str, float], total: int, low: int) -> None:
    assume(low * len(weights) <= total)
    quotas = largest_remainder(weights, total, low)
    assert sum(quotas.values()) == total
    assert min(quotas.values()) >= low


@given(WEIGHTS, st.integers(0, 2000))
def test_without_a_minimum_everyone_is_within_one_of_the_exact_share(weights: dict[str, float], total: int) -> None:
    whole = sum(weights.values())
    for name, quota in largest_remainder(weights, total).items():
        assert abs(quota - total * weights[name] / whole) < 1 + 1e-6


@given(WEIGHTS, st.integers(0, 500), st.floats(0.01, 5), st.data())
def test_more_weight_never_means_less_quota(
    weights: dict[str, float], total: int, more: float, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(weights)))
    heavier = weights | {name: weights[name] + more}
    assert largest_remainder(heavier, total)[name] >= largest_remainder(weights, total)[name]


@given(WEIGHTS, st.data())
def test_everyone_may_have_a_minimum_of_their_own(weights: dict[str, float], data: st.DataObject) -> None:
    least = {name: data.draw(st.integers(0, 20)) for name in weights}
    total = sum(least.values()) + data.draw(st.integers(0, 50))
    quotas = largest_remainder(weights, total, least)
    assert sum(quotas.values()) == total
    assert all(quotas[name] >= least[name] for name in weights)


def test_a_minimum_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        largest_remainder({"a": 1, "b": 1}, 3, 2)
