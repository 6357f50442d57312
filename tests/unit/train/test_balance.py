"""Whole groups on ranks that run in step; ranks are played one after the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from train_support import make_group, make_prompt

from dpe_ray.train.balance import dealt, in_step
from dpe_ray.train.batching import TrainingSequence
from dpe_ray.train.world import World
from dpe_ray.types import RolloutGroup


def groups_of(folder: Path, lengths: list[int]) -> list[RolloutGroup]:
    prompt = make_prompt(folder, 0)
    return [make_group(prompt, [1, 2], [0.0, 1.0], [[5] * length, [6]]) for length in lengths]


def sequence(folder: Path, pictures: bool, weight: float = 1.0) -> TrainingSequence:
    prompt = make_prompt(folder, 0)
    if not pictures:
        prompt = replace(prompt, sample=replace(prompt.sample, images=()))
    return TrainingSequence(prompt, (1,), (2,), (0.0,), 1.0, weight)


def beside(*others: int) -> Callable[[Tensor], None]:
    """The sum of ranks 0 and 1 when rank 1 adds these, one a call."""
    left = list(others)

    def add(tensor: Tensor) -> None:
        tensor[1] = left.pop(0)

    return add


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), size=st.integers(1, 5))
def test_every_group_is_dealt_to_one_rank_and_numbers_differ_by_at_most_one(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], size: int
) -> None:
    groups = groups_of(tmp_path_factory.getbasetemp(), lengths)
    parts = [dealt(groups, World(rank, size)) for rank in range(size)]
    assert sorted(id(group) for part in parts for group in part) == sorted(map(id, groups))
    counts = [len(part) for part in parts]
    assert max(counts) - min(counts) <= 1


def test_long_and_short_groups_are_dealt_evenly(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, [8, 1, 7, 2])
    lengths = [[len(g.rollouts[0].completion.token_ids) for g in dealt(groups, World(rank, 2))] for rank in range(2)]
    assert lengths == [[8, 1], [7, 2]]


def test_a_rank_with_fewer_micro_batches_runs_the_spare_one(tmp_path: Path) -> None:
    own, spare = [sequence(tmp_path, pictures=True)], [sequence(tmp_path, pictures=True, weight=0.0)]
    assert in_step([own], spare, World(0, 2, beside(3, 1))) == [own, spare, spare]


def test_a_micro_batch_without_pictures_runs_the_picture_tower_where_another_rank_does(tmp_path: Path) -> None:
    text, spare = [sequence(tmp_path, pictures=False)], [sequence(tmp_path, pictures=True, weight=0.0)]
    assert in_step([text], spare, World(0, 2, beside(1, 1))) == [text + spare]
    assert in_step([text], spare, World(0, 2, beside(1, 0))) == [text]


def test_one_process_runs_what_it_has(tmp_path: Path) -> None:
    text, spare = [sequence(tmp_path, pictures=False)], [sequence(tmp_path, pictures=True, weight=0.0)]
    shown = [sequence(tmp_path, pictures=True)]
    assert in_step([text, shown], spare, World()) == [text, shown]


@given(st.lists(st.integers(), max_size=9), st.integers(1, 4))
def test_what_the_ranks_share_is_rejoined_in_its_order(items: list[int], size: int) -> None:
    shares = [list(World(rank, size).share(items)) for rank in range(size)]
    for rank in range(size):
        assert World(rank, size, collect=lambda own: shares).rejoined(shares[rank]) == items


def test_every_sum_lies_on_the_device_of_its_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made = torch.tensor

    def on_cpu(values: list[float], *, dtype: torch.dtype, device: str) -> Tensor:
        asked.append(device)
        return made(values, dtype=dtype)

    monkeypatch.setattr(torch, "tensor", on_cpu)
    world = World(0, 2, device="cuda:3")
    in_step([[sequence(tmp_path, pictures=True)]], [sequence(tmp_path, pictures=False)], world)
    world.wait()
    assert asked == ["cuda:3"] * 3
