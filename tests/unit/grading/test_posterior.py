import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.grading.posterior import Tally, estimate

TALLIES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 30)).map(
        lambda t: Tally(t[0], max(t[1:]), min(t[1:]))
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.9), (0.5, 0.95)])
@pytest.mark.parametrize("cells", [12, 24])
def test_95_percent_intervals_hold_the_truth_at_least_93_times_in_100(
    cells: int, low: float, high: float, nested: bool
) -> None:
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(150):
        truth = rng.uniform(low, high, cells)
        if nested:  # cells of a category lie close together
            truth = np.clip(np.repeat(truth[: cells // 3], 3) + rng.normal(0, 0.08, cells), 0.02, 0.98)
        shares = rng.lognormal(0, 1.2, cells)
        n = rng.multinomial(200, shares / shares.sum())
        names = [f"c{i // 3 if nested else i}" for i in range(cells)]
        found = estimate([Tally(*t) for t in zip(names, n.tolist(), rng.binomial(n, truth).tolist(), strict=True)])
        for known, true in zip(found, truth, strict=True):
            interval = known.interval(0.95)
            hits.append(interval.low <= true <= interval.high)
    assert np.mean(hits) >= 0.93


@given(TALLIES)
def test_estimates_are_proper_whatever_was_counted(tallies: list[Tally]) -> None:
    for found in estimate(tallies):
        low, high = found.interval()
        assert 0 <= low < found.mean < high <= 1
        assert found.strength > 0


@given(TALLIES)
def test_the_order_of_the_cells_does_not_matter(tallies: list[Tally]) -> None:
    forth, back = estimate(tallies), estimate(tallies[::-1])
    assert [e.mean for e in forth] == pytest.approx([e.mean for e in back][::-1])


def test_a_cell_without_counts_takes_after_its_category_and_a_category_without_counts_after_the_whole() -> None:
    good, bad = [Tally("good", 20, 18)] * 3, [Tally("bad", 20, 4)] * 3
    found = estimate([*good, *bad, Tally("good", 0, 0), Tally("bad", 0, 0), Tally("new", 0, 0)])
    like_good, like_bad, new = found[6:]
    assert like_good.mean > 0.75
    assert like_bad.mean < 0.35
    assert like_bad.mean < new.mean < like_good.mean
    assert new.sd > like_good.sd > found[0].sd


def test_cells_that_agree_lend_each_other_more_than_cells_that_differ() -> None:
    alike = estimate([Tally(name, 20, 12) for name in "abcdefgh"] + [Tally("i", 5, 1)])[-1]
    unlike = estimate(
        [Tally(name, 20, k) for name, k in zip("abcdefgh", (2, 19) * 4, strict=True)] + [Tally("i", 5, 1)]
    )
    assert alike.mean > unlike[-1].mean + 0.1
    assert alike.strength > unlike[-1].strength


def test_many_counts_outweigh_the_neighbours() -> None:
    found = estimate([Tally("a", 2000, 200), *[Tally(name, 20, 18) for name in "bcdef"]])
    assert found[0].mean == pytest.approx(0.1, abs=0.01)


def test_nothing_gives_nothing() -> None:
    assert estimate([]) == ()
