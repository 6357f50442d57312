import logging

import pytest
from builders import make_cell

from dpe_ray.plan.methods import METHODS, Evidence, error_count, posterior, tier, tiered, uniform
from dpe_ray.types import ErrorRecord, MissingSkill, MistakeLocation, Need


def error(category: str, *skills: tuple[str, float]) -> ErrorRecord:
    missing = tuple(MissingSkill(name, f"to {name}", weight) for name, weight in skills)
    return ErrorRecord("id", category, ("a step",), "B", MistakeLocation("answer_switch", 1, "found"), missing)


@pytest.mark.parametrize(
    ("accuracy", "utility"),
    [(0, 2.0), (0.69, 2.0), (0.70, 1.5), (0.74, 1.5), (0.75, 1.0), (0.84, 1.0), (0.85, 0.8), (0.89, 0.8), (0.9, 0.5)],
)
def test_the_tiers_are_those_of_dpe(accuracy: float, utility: float) -> None:
    assert tier(accuracy) == utility


def test_tiered_weighs_by_the_tier_of_the_raw_accuracy() -> None:
    cells = [make_cell("a", "x", 5, 10), make_cell("a", "y", 8, 10), make_cell("b", "z", 10, 10)]
    assert tiered(Evidence(cells)) == {"a/x": 2.0, "a/y": 1.0, "b/z": 0.5}


def test_tiered_gives_an_unjudged_cell_the_accuracy_of_its_category_and_an_unjudged_category_nothing() -> None:
    cells = [make_cell("a", "x", 10, 10), make_cell("a", "y", 0, 0), make_cell("b", "z", 0, 0)]
    assert tiered(Evidence(cells)) == {"a/x": 0.5, "a/y": 0.5, "b/z": 0.0}


def test_error_count_weighs_every_wrong_answer_the_same() -> None:
    cells = [make_cell("a", "x", 2, 10), make_cell("a", "y", 36, 40), make_cell("b", "z", 3, 3)]
    assert error_count(Evidence(cells)) == {"a/x": 8.0, "a/y": 4.0, "b/z": 0.0}


def test_error_count_counts_missing_skills_where_mistakes_were_identified() -> None:
    cells = [make_cell("a", "x", 0, 10), make_cell("a", "y", 10, 10), make_cell("b", "x", 5, 5)]
    errors = [error("a", ("y", 1.0)), error("a", ("x", 0.5), ("y", 0.5)), error("b")]
    assert error_count(Evidence(cells, errors)) == {"a/x": 0.5, "a/y": 1.5, "b/x": 0.0}


def test_posterior_weighs_what_is_wanted_often_and_done_badly() -> None:
    cells = [make_cell("a", "x", 20, 100), make_cell("b", "y", 60, 100), make_cell("c", "z", 60, 100)]
    weights = posterior(Evidence(cells, target={"a": 0.2, "b": 0.2, "c": 0.6}))
    assert weights["a/x"] / weights["b/y"] == pytest.approx(2, rel=0.1)
    assert weights["c/z"] == pytest.approx(3 * weights["b/y"])


def test_posterior_steers_where_every_cell_lies_in_the_same_tier() -> None:
    cells = [make_cell("a", "x", 10, 100), make_cell("b", "y", 65, 100)]
    assert len(set(tiered(Evidence(cells)).values())) == 1
    weights = posterior(Evidence(cells))
    assert weights["a/x"] > 2 * weights["b/y"]


def test_posterior_does_not_trust_two_answers() -> None:
    cells = [make_cell("a", "x", 0, 2), *[make_cell(name, "y", 60, 100) for name in "bcdef"]]
    weights = posterior(Evidence(cells))
    assert 1.0 < weights["a/x"] / weights["b/y"] < 1.6


def test_a_target_by_category_is_shared_among_its_cells_and_one_by_cell_is_not() -> None:
    cells = [
        make_cell("a", "x", 5, 10),
        make_cell("a", "y", 5, 10),
        make_cell("b", "x", 5, 10),
        make_cell("b", "y", 5, 10),
    ]
    weights = posterior(Evidence(cells, target={"a": 1.0, "b": 0.5, "b/x": 2.0}))
    assert weights["a/x"] == pytest.approx(weights["a/y"])
    assert weights["b/x"] / weights["a/x"] == pytest.approx(4)
    assert weights["b/y"] / weights["a/x"] == pytest.approx(1)


def test_a_target_that_no_cell_answers_to_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        posterior(Evidence([make_cell("a", "x", 5, 10)], target={"a": 1.0, "maps": 1.0}))
    assert "maps" in caplog.text


def test_learnability_scales_the_weight_and_an_unmeasured_cell_takes_the_mean() -> None:
    cells = [
        make_cell("a", "x", 50, 100, learnability=0.25),
        make_cell("b", "x", 50, 100, learnability=0.05),
        make_cell("c", "x", 50, 100),
    ]
    weights = posterior(Evidence(cells))
    assert weights["b/x"] / weights["a/x"] == pytest.approx(0.2)
    assert weights["c/x"] / weights["a/x"] == pytest.approx(0.6)


def test_the_yield_in_the_band_stands_in_for_a_learnability_that_was_not_measured() -> None:
    cells = [make_cell("a", "x", 50, 100), make_cell("b", "x", 50, 100)]
    weights = posterior(Evidence(cells, yields={"a/x": 0.8, "b/x": 0.2}))
    assert weights["a/x"] / weights["b/x"] == pytest.approx(4)


@pytest.mark.parametrize("need", [Need.KNOWLEDGE, Need.PERCEPTION, Need.FORMAT])
def test_a_cell_that_reinforcement_cannot_help_keeps_its_weight(need: Need) -> None:
    cells = [make_cell("a", "x", 10, 100, learnability=0.0, need=need), make_cell("b", "x", 50, 100, learnability=0.2)]
    weights = posterior(Evidence(cells))
    assert weights["a/x"] / weights["b/x"] == pytest.approx(0.9 / 0.5, rel=0.1)


def test_a_cell_that_training_cannot_help_weighs_nothing() -> None:
    cells = [make_cell("a", "x", 10, 100, learnability=0.2, need=Need.PERCEPTION), make_cell("b", "x", 50, 100)]
    weights = posterior(Evidence(cells, taught={Need.ELICITABLE}))
    assert weights["a/x"] == 0
    assert weights["b/x"] > 0


def test_a_missing_skill_that_was_never_asked_takes_over_its_share_of_the_errors_of_its_category() -> None:
    cells = [make_cell("a", "x", 2, 10), make_cell("a", "y", 0, 0), make_cell("b", "z", 5, 10)]
    alone = posterior(Evidence([cells[0], cells[2]]))
    weights = posterior(Evidence(cells, [error("a", ("x", 0.7), ("y", 0.3))]))
    assert weights["a/x"] + weights["a/y"] == pytest.approx(alone["a/x"], rel=0.05)
    assert weights["a/y"] / weights["a/x"] == pytest.approx(3 / 7)


def test_a_category_whose_skills_nobody_named_hands_all_its_weight_to_what_its_errors_lack() -> None:
    cells = [make_cell("a", "unspecified", 2, 10), make_cell("a", "y", 0, 0)]
    weights = posterior(Evidence(cells, [error("a", ("y", 1.0))]))
    assert weights["a/unspecified"] == 0
    assert weights["a/y"] > 0


def test_a_target_by_category_is_kept_however_many_missing_skills_were_never_asked() -> None:
    unasked = [make_cell("a", f"y{i}", 0, 0) for i in range(9)]
    cells = [make_cell("a", "x", 5, 10), *unasked, make_cell("b", "z", 5, 10)]
    errors = [error("a", ("x", 0.5), *((f"y{i}", 0.5 / 9) for i in range(9)))]
    weights = posterior(Evidence(cells, errors, target={"a": 1.0, "b": 1.0}))
    of_a = sum(weight for cell, weight in weights.items() if cell.startswith("a/"))
    assert of_a == pytest.approx(weights["b/z"], rel=0.2)


def test_uniform_looks_at_nothing() -> None:
    assert uniform(Evidence([make_cell("a", "x", 0, 10), make_cell("b", "y", 10, 10)])) == {"a/x": 1.0, "b/y": 1.0}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_weighs_every_cell_and_none_below_zero(method: object) -> None:
    cells = [make_cell("a", "x", 0, 0), make_cell("b", "y", 10, 10), make_cell("c", "z", 0, 3)]
    weights = method(Evidence(cells))  # type: ignore[operator]
    assert set(weights) == {"a/x", "b/y", "c/z"}
    assert min(weights.values()) >= 0
