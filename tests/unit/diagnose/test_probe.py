from collections import Counter

from builders import make_sample
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.diagnose.probe import even_allocation, select_probe

SIZES = {"map": 50, "medical": 3, "diagram": 20}
ITEMS = [make_sample(f"{c} {i}?", category=c) for c, n in SIZES.items() for i in range(n)]


def test_every_category_is_covered_and_what_a_small_one_lacks_goes_to_the_others() -> None:
    counts = Counter(s.category for s in select_probe(ITEMS, 30, seed=0))
    assert counts["medical"] == 3
    assert sorted((counts["map"], counts["diagram"])) == [13, 14]


def test_the_draw_depends_on_the_seed_alone() -> None:
    assert select_probe(ITEMS, 30, seed=4) == select_probe(ITEMS, 30, seed=4)
    assert select_probe(ITEMS, 30, seed=4) != select_probe(ITEMS, 30, seed=5)


def test_a_small_set_is_taken_whole_in_its_order() -> None:
    assert select_probe(ITEMS, 100, seed=0) == tuple(ITEMS)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 40), max_size=8), st.integers(0, 200), st.integers(0, 9))
def test_allocations_sum_exactly_and_are_even(available: dict[str, int], total: int, seed: int) -> None:
    taken = even_allocation(available, total, seed)
    assert sum(taken.values()) == min(total, sum(available.values()))
    free = [taken[name] for name in taken if taken[name] < available[name]]
    assert all(taken[name] <= available[name] for name in taken)
    assert not free or max(taken.values()) - min(free) <= 1
