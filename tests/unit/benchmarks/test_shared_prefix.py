"""The benchmark of the shared prefix measures what it says."""

from pathlib import Path
from types import ModuleType

import pytest

from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import shared_prefix

    return shared_prefix


def test_both_forms_make_the_same_update_of_the_lengths_asked_for(bench: ModuleType) -> None:
    groups = bench.random_groups(prompt=36, response=3, group=4, count=2, seed=0)
    assert {len(group.prompt_ids) for group in groups} == {36}
    assert {len(rollout.completion.token_ids) for group in groups for rollout in group.rollouts} == {3}
    metrics = []
    for form in bench.FORMS:
        settings = GrpoSettings(tuning="full", lr=1e-6, kl=0.0, shared_prefix=form)
        metrics.append(GrpoTrainer(bench.qwen(36, seed=0), settings).step(groups))
    assert metrics[0]["grad_norm"] > 0
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, abs=1e-5)


def test_ideal_ratio_is_that_of_the_tokens(bench: ModuleType) -> None:
    row = bench.told(100, 50, 4, [(3.0, 1.0), (2.0, 1.0), (4.0, 1.0)])
    assert (row["ratio"], row["ideal"], row["share of ideal"]) == (3.0, 2.0, 1.5)
