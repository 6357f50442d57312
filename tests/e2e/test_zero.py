"""Two processes make the updates of one and leave its files: ZeRO-2 and ZeRO-3, the claims of unit/train/backends."""

from pathlib import Path

import pytest
from backend_support import (
    TUNINGS,
    Ranks,
    assert_bf16_of_one_process,
    assert_files_of_an_untied_checkpoint,
    assert_files_of_one_process,
    assert_update_of_one_process,
    on_both_ranks,
)
from train_support import save_tiny_student

from dpe_ray.types import PolicyRef

BACKENDS = ("zero2", "zero3")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PolicyRef:
    return save_tiny_student(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def ranks(tiny: PolicyRef, tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """What all backends did on two ranks."""
    return on_both_ranks(BACKENDS, tiny, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("tuning", TUNINGS)
def test_groups_that_are_left_are_dealt_out_anew_and_the_update_is_that_of_one_process(
    ranks: Ranks, tiny: PolicyRef, tmp_path: Path, tuning: str
) -> None:
    assert_update_of_one_process(ranks, BACKENDS, tuning, tiny, tmp_path)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_fine_tuning_leaves_the_directory_of_one_process(
    ranks: Ranks, tiny: PolicyRef, tmp_path: Path, tuning: str
) -> None:
    assert_files_of_one_process(ranks, BACKENDS, tuning, tiny, tmp_path)


def test_an_untied_head_is_left_as_by_one_process(ranks: Ranks, tmp_path: Path) -> None:
    assert_files_of_an_untied_checkpoint(ranks, BACKENDS, tmp_path)


@pytest.mark.parametrize("tuning", TUNINGS)
def test_what_is_trained_of_a_base_in_16_bit_is_in_32(
    ranks: Ranks, tiny: PolicyRef, tmp_path: Path, tuning: str
) -> None:
    assert_bf16_of_one_process(ranks, BACKENDS, tuning, tiny, tmp_path)
