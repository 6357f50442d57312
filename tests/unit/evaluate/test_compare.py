import numpy as np
import pytest
from builders import make_graded, make_image_ref, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from statsmodels.stats.multitest import multipletests

from dpe_ray.config import DecisionConfig
from dpe_ray.errors import ModelUnavailable, PoolError
from dpe_ray.evaluate.compare import category_changes, compare
from dpe_ray.evaluate.paired import Pair, estimate, holm, macro_estimate
from dpe_ray.types import Comparison, Graded

CONFIG = DecisionConfig(suite="gate", confidence=0.95, margin=0.05)


def answers(outcomes: dict[str, str]) -> list[Graded]:
    """Per category a string of c(orrect), w(rong), n(ot judged), u(nparsable)."""
    kinds = {"c": "correct", "w": "wrong", "n": "not_judged", "u": "unparsable"}
    return [
        make_graded(make_sample(f"{name} {i}?", category=name, image=make_image_ref(f"{name}{i}")), kinds[letter])
        for name, letters in outcomes.items()
        for i, letter in enumerate(letters)
    ]


def decide(before: dict[str, str], after: dict[str, str], config: DecisionConfig = CONFIG) -> Comparison:
    return compare(answers(before), answers(after), config)


def test_a_clear_gain_without_a_fall_is_accepted() -> None:
    result = decide({"map": "w" * 60 + "c" * 60, "medical": "c" * 120}, {"map": "c" * 120, "medical": "c" * 120})
    assert result.decision == "accept"
    assert result.macro_change == pytest.approx(0.25)
    assert result.macro_low > 0
    assert "macro rose by +0.250" in result.reasons[0]


def test_the_scores_name_the_gate_suite() -> None:
    result = decide({"map": "cw"}, {"map": "cc"})
    assert {name: s.accuracy for name, s in result.before.by_suite.items()} == {"gate": 0.5}
    assert {name: s.accuracy for name, s in result.after.by_suite.items()} == {"gate": 1.0}


def test_no_change_is_rolled_back_since_nothing_is_superior() -> None:
    result = decide({"map": "cw" * 50}, {"map": "cw" * 50})
    assert result.decision == "rollback"
    assert "not superior" in result.reasons[0]


def test_a_gain_does_not_buy_a_certain_fall_elsewhere() -> None:
    result = decide({"map": "w" * 100, "medical": "c" * 100}, {"map": "c" * 100, "medical": "c" * 70 + "w" * 30})
    assert result.decision == "rollback"
    assert result.macro_low > 0
    assert any("medical fell for certain: -0.300 on 100 items" in reason for reason in result.reasons)


def test_an_uncertain_fall_is_rolled_back_only_when_non_inferiority_must_be_proven() -> None:
    before, after = {"map": "w" * 100, "medical": "c" * 20}, {"map": "c" * 100, "medical": "c" * 18 + "ww"}
    result = decide(before, after)
    assert result.by_category["medical"].p_fall > 0.05
    assert result.decision == "accept"
    assert any("medical: a fall beyond 0.05 is not excluded" in reason for reason in result.reasons)
    strict = decide(before, after, CONFIG.model_copy(update={"guard": "proven"}))
    assert strict.decision == "rollback"
    assert any("medical is not proven" in reason for reason in strict.reasons)


def test_an_accepted_policy_names_what_the_gate_could_not_have_seen() -> None:
    result = decide({"map": "w" * 300, "medical": "c" * 20}, {"map": "c" * 300, "medical": "c" * 20})
    assert result.decision == "accept"
    (reason,) = [r for r in result.reasons if r.startswith("medical")]
    assert f"{result.by_category['medical'].detectable_drop:.3f}" in reason
    assert not any(r.startswith("map:") for r in result.reasons)


def test_items_that_one_policy_was_not_judged_on_make_no_pair() -> None:
    result = decide({"map": "wwnc"}, {"map": "cnwc"})
    assert result.by_category["map"].n == 2
    assert result.by_category["map"].change == 0.5
    assert (result.before.not_judged, result.after.not_judged) == (1, 1)


def test_an_unparsable_answer_is_a_wrong_one() -> None:
    assert decide({"map": "cc"}, {"map": "cu"}).by_category["map"].change == -0.5


def test_different_items_are_never_compared() -> None:
    with pytest.raises(PoolError, match="different items"):
        decide({"map": "cc"}, {"map": "ccc"})


def test_an_outage_is_no_comparison() -> None:
    with pytest.raises(ModelUnavailable):
        decide({"map": "nn"}, {"map": "cc"})


def pairs(changes: np.ndarray, per_image: int = 1) -> list[Pair]:
    return [Pair(str(i // per_image), int(change)) for i, change in enumerate(changes)]


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_no_discordant_pair_gives_a_bound_like_the_rule_of_three(n: int) -> None:
    low, high = estimate(pairs(np.zeros(n))).interval(0.95)
    assert low == -high
    assert 2.5 / n < high < 3.0 / n


def test_a_hundred_questions_about_one_image_are_one_observation() -> None:
    falls = np.where(np.arange(100) < 30, -1, 0)
    alone, together = estimate(pairs(falls)), estimate(pairs(falls, per_image=50))
    assert alone.p_below(0) < 1e-4
    assert together.p_below(0) > 0.05
    assert macro_estimate({"a": pairs(falls, 100)}).interval(0.95) == (-1.0, 1.0)


def test_a_large_sample_gives_the_textbook_standard_error() -> None:
    changes = np.repeat([1, -1, 0], [60, 40, 900])
    textbook = np.std(changes, ddof=1) / np.sqrt(len(changes))
    assert estimate(pairs(changes)).se == pytest.approx(textbook, rel=0.02)
    assert macro_estimate({"a": pairs(changes)}).se == pytest.approx(textbook, rel=0.001)


def test_the_detectable_drop_shrinks_with_items_as_published() -> None:
    """At 10 % discordant pairs and Holm over ten categories 240 items see about 7 to 10 points, 970 about half."""
    changes = np.repeat([1, -1, 0], [12, 12, 216])
    small = estimate(pairs(changes)).detectable_drop(0.005)
    large = estimate(pairs(np.repeat(changes, 4))).detectable_drop(0.005)
    assert 0.06 < small < 0.10
    assert large == pytest.approx(small / 2, rel=0.05)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_the_reference(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def simulate(rng: Generator, categories: int, images: int, drop: float = 0.0) -> dict[str, list[Pair]]:
    """Two questions per image with a common disposition; unchanged policies flip 20 % of the items at random."""
    result = {}
    for c in range(categories):
        lean = np.repeat(rng.uniform(-0.05, 0.05, images), 2)
        draw = rng.uniform(size=2 * images)
        shift = lean / 2 - (drop / 2 if c == 0 else 0)
        up, down = 0.1 + shift, 0.1 - shift
        changes = np.where(draw < up, 1, np.where(draw < up + down, -1, 0))
        result[f"c{c}"] = [Pair(f"c{c}-{i // 2}", int(change)) for i, change in enumerate(changes)]
    return result


@pytest.mark.parametrize("images", [10, 40])
def test_unchanged_policies_are_called_fallen_in_at_most_one_of_twenty_comparisons(images: int) -> None:
    rng = np.random.default_rng(7)
    flagged = sum(
        any(c.p_fall < 0.05 for c in category_changes(simulate(rng, 10, images), CONFIG).values()) for _ in range(300)
    )
    assert flagged <= 15


def test_unchanged_policies_look_superior_in_at_most_one_of_twenty_comparisons() -> None:
    rng = np.random.default_rng(8)
    lows = [macro_estimate(simulate(rng, 6, 15)).interval(0.95)[0] for _ in range(300)]
    assert sum(low > 0 for low in lows) <= 15


def test_the_macro_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(9)
    ends = [macro_estimate(simulate(rng, 6, 15)).interval(0.95) for _ in range(300)]
    assert sum(low <= 0 <= high for low, high in ends) >= 0.93 * 300


def test_a_real_gain_of_ten_points_is_found() -> None:
    rng = np.random.default_rng(10)
    found = 0
    for _ in range(100):
        draws = {f"c{c}": rng.uniform(size=80) for c in range(6)}
        gained = {n: pairs(np.where(d < 0.15, 1, np.where(d < 0.20, -1, 0))) for n, d in draws.items()}
        found += macro_estimate(gained).interval(0.95)[0] > 0
    assert found >= 95


def test_a_real_fall_of_the_detectable_size_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(11)
    drop = estimate(simulate(rng, 1, 100)["c0"]).detectable_drop(0.05 / 6)
    found = [category_changes(simulate(rng, 6, 100, drop), CONFIG)["c0"].p_fall < 0.05 for _ in range(200)]
    assert 0.65 < np.mean(found) <= 1.0
