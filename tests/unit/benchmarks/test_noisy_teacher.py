import asyncio
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import noisy_teacher

    return noisy_teacher


def drafts(noisy: ModuleType, folder: Path, correlation: float) -> list:
    images, truth = noisy.draw_pool(folder, 20, seed=0)
    return asyncio.run(noisy.annotated(folder, images, truth, correlation, (1, 0)))


def test_a_teacher_that_never_errs_loses_no_draft(noisy: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(noisy, "ERROR_RATE", 0.0)
    told = noisy.passed(drafts(noisy, tmp_path, 0.0))
    assert told["reaching"] == told["accepted"] == 20
    assert told["yield"][0] == 1.0
    assert told["accepted_wrong"][0] == 0.0


def test_a_wrong_belief_that_all_roles_share_passes_and_is_counted_wrong(
    noisy: ModuleType, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(noisy, "ERROR_RATE", 1.0)
    told = noisy.passed(drafts(noisy, tmp_path, 1.0))
    assert told["accepted"] == 20
    assert told["accepted_wrong"][0] == 1.0


def test_shares_are_of_what_each_gate_leaves(noisy: ModuleType) -> None:
    gates = {True: ("", "", "solver", "validator"), False: ("", "solver", "solver", "validator")}
    told = noisy.passed([noisy.Draft("s", "a", 0, right, gate) for right in gates for gate in gates[right]])
    assert [told[name] for name in ("reaching", "validated", "accepted")] == [8, 6, 3]
    assert [told[f"{name}_wrong"][0] for name in ("reaching", "validated", "accepted")] == [1 / 2, 1 / 2, 1 / 3]
    assert told["yield"][0] == 1 / 2


def test_open_questions_are_grouped_by_the_answers_that_are_ever_true(noisy: ModuleType) -> None:
    parity = [noisy.Draft("parity", answer, 0, True, "") for answer in ("even", "odd", "even")]
    choice = [noisy.Draft("tile", "A", 4, True, "")]
    assert noisy.answers_of(parity + choice) == ["open, 2 answers"] * 3 + ["4 options"]
