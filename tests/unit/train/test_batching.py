"""From groups to tensors: padding, dropping, permuting, splitting."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_support import make_group, make_prompt

from dpe_ray.errors import TrainingError
from dpe_ray.train.batching import (
    collate,
    idle,
    informative,
    pack,
    permute_rewards,
    split_updates,
    training_sequences,
)
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import RolloutGroup


def group_of(
    folder: Path, rewards: list[float], prompt_length: int = 3, lengths: list[int] | None = None
) -> RolloutGroup:
    lengths = lengths or [2] * len(rewards)
    completions = [[40 + t for t in range(length)] for length in lengths]
    return make_group(make_prompt(folder, 0), list(range(10, 10 + prompt_length)), rewards, completions)


def test_completions_start_in_one_column_whatever_the_prompt_length(tmp_path: Path) -> None:
    sequences = [
        *training_sequences(group_of(tmp_path, [1.0, 0.0], 3, [2, 1])),
        *training_sequences(group_of(tmp_path, [1.0, 0.0], 1, [1, 2])),
    ]
    batch = collate(sequences, pad_id=0)
    assert batch.input_ids.tolist() == [
        [10, 11, 12, 40, 41],
        [10, 11, 12, 40, 0],
        [0, 0, 10, 40, 0],
        [0, 0, 10, 40, 41],
    ]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.mask.tolist() == [[1, 1], [1, 0], [1, 0], [1, 1]]
    assert batch.completion_ids.tolist() == [[40, 41], [40, 0], [40, 0], [40, 41]]
    assert batch.rollout_logprobs[1].tolist() == [-5.0, 0.0]


def test_groups_without_signal_are_left_out(tmp_path: Path) -> None:
    groups = [group_of(tmp_path, [1.0, 1.0]), group_of(tmp_path, [0.0, 1.0]), group_of(tmp_path, [0.0, 0.0])]
    assert informative(groups) == [groups[1]]


@given(rewards=st.lists(st.sampled_from([0.0, 0.1, 0.9, 1.0]), min_size=2, max_size=12), seed=st.integers(0, 99))
def test_permuted_rewards_are_the_same_multiset_and_repeat_by_seed(
    tmp_path_factory: pytest.TempPathFactory, rewards: list[float], seed: int
) -> None:
    group = group_of(tmp_path_factory.getbasetemp(), rewards)
    dealt = permute_rewards(group, seed)
    assert sorted(rollout.reward for rollout in dealt.rollouts) == sorted(rewards)
    assert [r.completion for r in dealt.rollouts] == [r.completion for r in group.rollouts]
    assert dealt == permute_rewards(group, seed)


def test_some_seed_moves_rewards(tmp_path: Path) -> None:
    group = group_of(tmp_path, [1.0, 0.0, 0.0, 0.0])
    assert any(permute_rewards(group, seed) != group for seed in range(5))


@given(count=st.integers(0, 40), updates=st.integers(1, 6))
def test_updates_share_the_groups_evenly(count: int, updates: int) -> None:
    parts = split_updates(list(range(count)), updates)  # type: ignore[arg-type]
    assert [group for part in parts for group in part] == list(range(count))
    assert len(parts) == updates
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_micro_batches_keep_groups_together_and_sort_them_by_length(tmp_path: Path) -> None:
    groups = [group_of(tmp_path, [1.0, 0.0], 9), group_of(tmp_path, [1.0, 0.0], 2), group_of(tmp_path, [1.0, 0.0], 5)]
    packed = pack(groups, GrpoSettings(micro_batch=4))
    assert [[len(sequence.prompt_ids) for sequence in part] for part in packed] == [[2, 2, 5, 5], [9, 9]]


def cut_off(group: RolloutGroup, *members: int) -> RolloutGroup:
    """The group with some of its completions cut by the length limit."""
    rollouts = [
        replace(rollout, completion=replace(rollout.completion, finished=index not in members))
        for index, rollout in enumerate(group.rollouts)
    ]
    return replace(group, rollouts=tuple(rollouts))


def test_truncated_completions_are_masked_by_choice_and_stay_in_the_baseline(tmp_path: Path) -> None:
    group = cut_off(group_of(tmp_path, [1.0, 0.0, 0.0, 1.0]), 1)
    all_of_them = training_sequences(group)
    kept = training_sequences(group, GrpoSettings(mask_truncated_completions=True))
    assert kept == [all_of_them[index] for index in (0, 2, 3)]


def test_a_group_of_truncated_completions_makes_no_micro_batch(tmp_path: Path) -> None:
    groups = [cut_off(group_of(tmp_path, [1.0, 0.0]), 0, 1), group_of(tmp_path, [1.0, 0.0], 5)]
    packed = pack(groups, GrpoSettings(mask_truncated_completions=True))
    assert [[len(sequence.prompt_ids) for sequence in part] for part in packed] == [[5, 5]]


def test_an_idle_micro_batch_weighs_nothing(tmp_path: Path) -> None:
    (sequence,) = idle(group_of(tmp_path, [1.0, 0.0]))
    assert (sequence.weight, sequence.advantage) == (0.0, 0.0)


def test_rollouts_without_logprobs_are_refused(tmp_path: Path) -> None:
    group = make_group(make_prompt(tmp_path, 0), [], [1.0, 0.0], [[1], [2]])
    with pytest.raises(TrainingError, match="log-probs"):
        training_sequences(group)
