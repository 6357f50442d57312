"""Group-normalised advantages against numbers worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.train.advantage import group_advantages

REWARDS = st.lists(st.floats(0, 1, allow_nan=False), min_size=2, max_size=16)


def test_advantages_of_a_hand_computed_group() -> None:
    # mean 0.5, sample variance (0.16 + 0.16 + 0.25 + 0.25) / 3
    spread = math.sqrt(0.82 / 3)
    expected = [x / (spread + 1e-6) for x in (0.4, -0.4, -0.5, 0.5)]
    assert group_advantages([0.9, 0.1, 0.0, 1.0]) == pytest.approx(expected, abs=1e-12)


def test_population_deviation_and_a_larger_eps_by_hand() -> None:
    spread = math.sqrt(0.82 / 4)
    expected = [x / (spread + 1e-4) for x in (0.4, -0.4, -0.5, 0.5)]
    assert group_advantages([0.9, 0.1, 0.0, 1.0], ddof=0, eps=1e-4) == pytest.approx(expected, abs=1e-12)


def test_without_scaling_advantages_are_the_differences_from_the_mean() -> None:
    assert group_advantages([0.9, 0.1, 0.0, 1.0], scale="none") == pytest.approx([0.4, -0.4, -0.5, 0.5], abs=1e-12)
    assert group_advantages([0.3] * 3, scale="none") == [0.0] * 3


def test_equal_rewards_give_exactly_zero() -> None:
    assert group_advantages([0.1] * 7) == [0.0] * 7
    assert group_advantages([1.0]) == [0.0]


@given(REWARDS)
def test_advantages_of_a_group_sum_to_zero(rewards: list[float]) -> None:
    assert sum(group_advantages(rewards)) == pytest.approx(0.0, abs=1e-6)


@given(REWARDS)
def test_advantages_keep_the_order_of_the_rewards(rewards: list[float]) -> None:
    advantages = group_advantages(rewards)
    for a, r in zip(advantages, rewards, strict=True):
        for b, s in zip(advantages, rewards, strict=True):
            assert not (r < s and a > b)
