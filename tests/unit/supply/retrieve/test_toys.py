"""Small versions of the worlds that benchmarks/retrieval.py measures."""

from statistics import fmean

import pytest


@pytest.fixture(scope="module")
def runs(toys):
    size = toys.Size(
        skills=8, weak=2, features=16, few=6, many=100, support=1_200, validation=150, test=1_000, budget=120
    )
    return [toys.targeted_against_random(seed, size) for seed in range(6)]


def margins(runs, arm):
    return [run[arm] - run["random"] for run in runs]


def test_targeted_samples_teach_more_than_as_many_random_ones(runs):
    assert min(margins(runs, "targeted")) > 0
    assert fmean(margins(runs, "targeted")) >= 0.03
    assert fmean(run["targeted_weak_share"] for run in runs) >= 0.7
    assert all(run["targeted"] > run["before"] for run in runs)


def test_a_wrong_diagnosis_gains_nothing_over_random(runs):
    assert abs(fmean(margins(runs, "misdiagnosed"))) < 0.02


def test_paraphrases_are_lost_to_words_and_found_by_the_hybrid(toys):
    found = toys.paraphrase(seed=0, noise=0.7)
    assert found["bm25"] < 2 / 12
    assert found["hybrid"] >= found["dense"] > 0.9


def test_the_hybrid_finds_more_than_either_where_each_knows_a_part(toys):
    found = toys.paraphrase(seed=0, shared=0.5, noise=1.5)
    assert found["hybrid"] > max(found["bm25"], found["dense"]) + 0.05
