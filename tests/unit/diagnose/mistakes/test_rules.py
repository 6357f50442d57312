import numpy as np
import pytest

from dpe_ray.diagnose.mistakes import rules
from dpe_ray.diagnose.mistakes.methods import LocateSettings, from_trace
from dpe_ray.diagnose.mistakes.simulation import Simulated
from dpe_ray.diagnose.mistakes.trace import Trace

CALM = [-0.3] * 5


@pytest.mark.parametrize(
    ("margins", "step"),
    [
        ([-0.3, -0.3, 0.6, 0.7, 0.7], 2),
        ([-0.3, -0.3, -0.3, -0.3, 0.6], 4),  # in the last step: the window is cut at the end
        ([-0.3, 0.6, -0.3, -0.3, 0.7, 0.7], 4),  # a blip before
        ([-0.3, -0.3, 0.2, 0.2, 0.2], None),  # a tie with delta
        ([-0.3, 0.6, -0.2, 0.6, -0.2], None),  # never twice in a row
        (CALM, None),
        ([0.6, 0.6, -0.3, 0.6, 0.6], 3),  # what stands at t = 0 is no switch
        ([-0.3], None),
    ],
)
def test_answer_switch_is_the_first_lasting_crossing(margins, step):
    assert rules.answer_switch(margins, delta=0.2, persistence=2) == step


def test_persistence_one_takes_the_blip_and_delta_zero_the_tie():
    assert rules.answer_switch([-0.3, 0.6, -0.3, 0.7, 0.7], 0.2, 1) == 1
    assert rules.answer_switch([-0.3, 0.1, 0.1], 0.0, 2) == 1


def test_largest_jump_takes_the_first_of_equals_and_no_step_where_nothing_rises():
    assert rules.largest_jump([0.0, 0.0, 2.0, 2.0, 4.0]) == 2
    assert rules.largest_jump([1.0, 0.5, 0.4, 0.41]) is None
    assert rules.largest_jump([0.0]) is None


def test_change_point_minimises_the_squared_error():
    rng = np.random.default_rng(0)
    for _ in range(50):
        z = rng.normal(size=12) + np.where(np.arange(12) >= 7, 1.0, 0.0)
        errors = {
            k: ((z[:k] - z[:k].mean()) ** 2).sum() + ((z[k:] - z[k:].mean()) ** 2).sum()
            for k in range(1, 12)
            if z[k:].mean() - z[:k].mean() >= rules.LEAST_RISE
        }
        assert rules.change_point(z) == min(errors, key=errors.__getitem__)


def test_change_point_finds_no_step_in_a_fall_or_a_level():
    assert rules.change_point([3.0, 2.0, 1.0]) is None
    assert rules.change_point([1.0, 1.0, 1.0]) is None


def test_random_steps_are_fixed_by_the_seed_and_reach_every_step():
    drawn = [rules.random_step(5, seed) for seed in range(100)]
    assert drawn == [rules.random_step(5, seed) for seed in range(100)]
    assert set(drawn) == {1, 2, 3, 4, 5}


def test_first_wrong_and_first_divergence_name_the_first_step_that_departs():
    assert rules.first_wrong([0.1, 0.5, 0.7, 0.9]) == 3
    assert rules.first_wrong([0.1, 0.2]) is None
    own = ["The bar is 4 high.", "Twice 4 is 8."]
    assert rules.first_divergence(["bar is 4 high", "twice 4 is 8", "so 9 of them"], own) == 3
    assert rules.first_divergence(["twice 4 is 8"], own) is None


def trace_of(margin_points, prior=0.6):
    shares = [((1 - margin) / 2, (1 + margin) / 2) for margin in margin_points]
    return Trace(tuple((float(np.log(p)), float(np.log(q))) for p, q in shares), 0, 1, prior)


def test_where_the_rule_never_fires_the_largest_jump_stands_in_and_a_flat_trace_abstains():
    fallen_back = from_trace(trace_of([-0.5, -0.5, 0.1, 0.1]), LocateSettings(), 8)
    assert (fallen_back.step, fallen_back.status) == (2, "fallback")
    flat = from_trace(trace_of(CALM), LocateSettings(), 8)
    assert (flat.step, flat.status) == (None, "abstained")


def test_a_teacher_that_prefers_the_wrong_option_from_the_start_cannot_switch_to_it():
    assert from_trace(trace_of([0.5, 0.5, 0.6]), LocateSettings(), 6).status == "abstained"


def located(teacher: Simulated, find, trials: int) -> float:
    rng = np.random.default_rng(0)
    hits = 0
    for number in range(trials):
        step, trace = teacher.trial(rng)
        hits += find(trace, number) == step
    return hits / trials


def switch(delta):
    return lambda trace, number: rules.answer_switch(trace.margins, delta)


@pytest.mark.parametrize(("num_options", "trials"), [(2, 4000), (4, 1500), (10, 1500)])
def test_the_calibration_holds_for_any_number_of_options(num_options, trials):
    teacher = Simulated(num_options)
    assert 0.64 <= located(teacher, switch(0.0), trials) <= 0.74
    assert located(teacher, switch(0.2), trials) >= 0.92


def test_the_change_point_beats_chance_by_far():
    teacher = Simulated()
    assert located(teacher, lambda trace, number: rules.change_point(trace.log_odds), 1500) >= 0.95
    chance = located(teacher, lambda trace, number: rules.random_step(len(trace.log_odds) - 1, number), 1500)
    assert 0.06 <= chance <= 0.10


@pytest.mark.parametrize("num_options", [2, 4, 10])
def test_a_liking_for_a_slot_cancels_when_gold_and_wrong_are_swapped(num_options):
    plain, liking = (Simulated(num_options, slot_bias=bias) for bias in (0.0, 1.0))
    for seed in range(50):
        _, straight = plain.trial(np.random.default_rng(seed))
        _, biased = liking.trial(np.random.default_rng(seed))
        assert biased.log_odds == pytest.approx(straight.log_odds)


def test_without_the_swap_a_liking_for_a_slot_costs_accuracy():
    swapped, single = (Simulated(slot_bias=1.0, swaps=swaps) for swaps in (True, False))
    assert located(swapped, switch(0.2), 300) - located(single, switch(0.2), 300) > 0.2


def test_a_prior_shared_among_ten_options_hides_the_switch():
    assert located(Simulated(10, is_two_way=False), switch(0.2), 300) < 0.1
