import numpy as np
import pytest
from builders import make_sample
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.diagnose.adaptive import second_batch, second_probe
from dpe_ray.grading.posterior import Tally, estimate

NAMES = st.sampled_from("abcdef")
COUNTS = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda t: (max(t), min(t)))


@given(st.dictionaries(NAMES, COUNTS), st.dictionaries(NAMES, st.integers(0, 15)), st.integers(0, 100), st.booleans())
def test_the_batch_has_its_size_as_far_as_there_are_items(
    counts: dict[str, tuple[int, int]], available: dict[str, int], size: int, whole: bool
) -> None:
    taken = second_batch(counts, available, size, whole_set=whole)
    assert sum(taken.values()) == min(size, sum(available.values()))
    assert all(0 <= taken[name] <= available[name] for name in available)


def test_the_cell_that_was_asked_least_gets_most() -> None:
    taken = second_batch({"a": (30, 15), "b": (5, 2), "c": (30, 15)}, dict.fromkeys("abc", 100), 20)
    assert taken["b"] > 10


def test_a_cell_near_one_half_gets_more_than_a_cell_that_is_nearly_always_right() -> None:
    taken = second_batch({"a": (40, 20), "b": (40, 39)}, {"a": 100, "b": 100}, 40)
    assert taken["a"] > taken["b"]


def test_probes_go_by_the_two_thirds_power_of_importance() -> None:
    taken = second_batch({}, {"a": 10_000, "b": 10_000}, 6000, {"a": 8.0, "b": 1.0})
    assert taken["a"] / taken["b"] == pytest.approx(4, rel=0.02)


def test_a_small_set_is_asked_in_full_only_when_the_set_itself_is_wanted() -> None:
    counts, available = {"small": (10, 5), "large": (10, 5)}, {"small": 6, "large": 300}
    assert second_batch(counts, available, 8)["small"] == 4
    assert second_batch(counts, available, 8, whole_set=True)["small"] == 6


def test_a_second_batch_by_importance_leaves_the_mixture_less_uncertain_than_an_even_one() -> None:
    rng, errors = np.random.default_rng(3), {"even": [], "adaptive": []}
    names = [f"c{i:02}" for i in range(12)]
    for _ in range(150):
        shares, truth = rng.lognormal(0, 1.2, 12), rng.uniform(0.2, 0.9, 12)
        n = np.full(12, 8)
        correct = rng.binomial(n, truth)
        wanted = shares * (1 - truth) / (shares * (1 - truth)).sum()
        counts = {name: (8, int(k)) for name, k in zip(names, correct, strict=True)}
        taken = second_batch(counts, dict.fromkeys(names, 1000), 96, dict(zip(names, shares, strict=True)))
        for kind, more in (("even", n), ("adaptive", np.array([taken[name] for name in names]))):
            k = correct + rng.binomial(more, truth)
            found = estimate([Tally(*t) for t in zip(names, (n + more).tolist(), k.tolist(), strict=True)])
            weights = shares * (1 - np.array([e.mean for e in found]))
            errors[kind].append(np.abs(weights / weights.sum() - wanted).sum())
    assert np.mean(errors["adaptive"]) < 0.93 * np.mean(errors["even"])


def test_a_second_probe_asks_nothing_twice_and_is_drawn_by_seed() -> None:
    items = [make_sample(f"q{i}", category="ab"[i % 2]) for i in range(60)]
    asked = {item.id for item in items[:20]}
    drawn = second_probe(items, asked, {"a": (10, 5), "b": (10, 10)}, 12, seed=1)
    assert len(drawn) == 12
    assert not asked & {item.id for item in drawn}
    assert sum(item.category == "a" for item in drawn) > 6
    assert drawn == second_probe(items, asked, {"a": (10, 5), "b": (10, 10)}, 12, seed=1)
    assert drawn != second_probe(items, asked, {"a": (10, 5), "b": (10, 10)}, 12, seed=2)
