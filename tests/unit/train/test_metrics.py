"""What a rollout batch is said to have been like, by hand."""

from pathlib import Path

import pytest
from train_support import make_prompt

from dpe_ray.train.metrics import rollout_metrics
from dpe_ray.train.world import World
from dpe_ray.types import Completion, Rollout, RolloutGroup


def rollout(reward: float, tokens: int, finished: bool = True, errors: tuple[str, ...] = ()) -> Rollout:
    completion = Completion("x", tuple(range(tokens)), (0.0,) * tokens, finished)
    return Rollout(completion, reward, {"accuracy": reward}, errors)


def test_metrics_of_two_groups_by_hand(tmp_path: Path) -> None:
    groups = [
        RolloutGroup(make_prompt(tmp_path, 0), (rollout(1.0, 4), rollout(0.0, 8, finished=False)), 0),
        RolloutGroup(make_prompt(tmp_path, 1), (rollout(1.0, 2), rollout(1.0, 6, errors=("own: crash",))), 0),
    ]
    assert rollout_metrics(groups, ["accuracy"], World()) == pytest.approx(
        {
            "reward": 0.75,
            "reward/accuracy": 0.75,
            "reward_std": 0.5**0.5 / 2,
            "frac_reward_zero_std": 0.5,
            "completions/mean_length": 5.0,
            "completions/mean_terminated_length": 4.0,
            "completions/max_length": 8.0,
            "completions/clipped_ratio": 0.25,
            "reward_errors": 1.0,
        }
    )


def test_a_batch_without_one_finished_completion_has_a_mean_of_0(tmp_path: Path) -> None:
    group = RolloutGroup(make_prompt(tmp_path, 0), (rollout(1.0, 8, finished=False),) * 2, 0)
    assert rollout_metrics([group], [], World())["completions/mean_terminated_length"] == 0.0
