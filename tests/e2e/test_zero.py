"""Two processes make the updates of one and leave its files: ZeRO-2 and ZeRO-3, the claims of unit/train/backends."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from backend_support import (
    FORWARDS,
    SETTINGS,
    SFT,
    assert_same_files,
    assert_same_updates,
    on_two_ranks,
    small_chunks,
    tuned,
    updated,
)
from train_support import save_tiny_student

from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef

BACKENDS = ("zero2", "zero3")
TUNINGS = ("full", "lora")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PolicyRef:
    return save_tiny_student(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def ranks(tiny: PolicyRef, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What all backends did on two ranks."""
    works: dict[str, Any] = {}
    for backend in BACKENDS:
        for tuning in TUNINGS:
            works[f"grpo-{backend}-{tuning}"] = partial(updated, replace(SETTINGS, backend=backend, tuning=tuning))
            works[f"sft-{backend}-{tuning}"] = partial(tuned, replace(SFT, backend=backend, tuning=tuning))
    return on_two_ranks(works, tiny, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("tuning", TUNINGS)
def test_groups_that_are_left_are_dealt_out_anew_and_the_update_is_that_of_one_process(
    ranks: list[dict[str, Any]], tiny: PolicyRef, tmp_path: Path, tuning: str
) -> None:
    with small_chunks():
        alone = updated(replace(SETTINGS, tuning=tuning), tiny, tmp_path, World())
    for backend in BACKENDS:
        ours = [rank[f"grpo-{backend}-{tuning}"] for rank in ranks]
        assert [rank.forwards for rank in ours] == [FORWARDS, FORWARDS], backend
        assert_same_updates(ours, alone)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_fine_tuning_leaves_the_directory_of_one_process(
    ranks: list[dict[str, Any]], tiny: PolicyRef, tmp_path: Path, tuning: str
) -> None:
    alone = tuned(replace(SFT, tuning=tuning), tiny, tmp_path, World())
    for backend in BACKENDS:
        assert_same_files([rank[f"sft-{backend}-{tuning}"] for rank in ranks], alone)
