"""What a rollout batch looked like, over all ranks, under TRL's names."""

from collections.abc import Callable, Sequence
from statistics import stdev

from dpe_ray.train.advantage import equal_rewards
from dpe_ray.train.world import World
from dpe_ray.types import RolloutGroup

Metrics = dict[str, float]
OnStep = Callable[[int, Metrics, Sequence[RolloutGroup]], None]
"""Told, on every rank, the number of finished steps, the last one's metrics, and this rank's rollouts of it."""


def ignore_step(step: int, metrics: Metrics, groups: Sequence[RolloutGroup]) -> None:
    """An `OnStep` that does nothing."""


def rollout_metrics(groups: Sequence[RolloutGroup], parts: Sequence[str], world: World) -> Metrics:
    """Means over rollouts or groups of all ranks; every rank has at least one group.

    reward_std is the mean standard deviation within groups, frac_reward_zero_std the share of groups that teach
    nothing, completions/clipped_ratio the share cut by the length limit, completions/mean_terminated_length the mean
    length of the others (0 when there are none), reward_errors the number of rewards that could not be had.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    rewards = [[rollout.reward for rollout in group.rollouts] for group in groups]
    columns: dict[str, Sequence[float]] = {
        "reward": [rollout.reward for rollout in rollouts],
        "completions/mean_length": [len(rollout.completion.token_ids) for rollout in rollouts],
        "completions/clipped_ratio": [not rollout.completion.finished for rollout in rollouts],
        **{f"reward/{part}": [rollout.parts[part] for rollout in rollouts] for part in parts},
        "reward_std": [stdev(group) for group in rewards],
        "frac_reward_zero_std": [equal_rewards(group) for group in rewards],
    }
    finished = [len(rollout.completion.token_ids) for rollout in rollouts if rollout.completion.finished]
    columns["completions/mean_terminated_length"] = finished
    sums = world.total(*(float(sum(column)) for column in columns.values()))
    counts = world.total(*(float(len(column)) for column in columns.values()))
    means = {name: total / max(count, 1.0) for name, total, count in zip(columns, sums, counts, strict=True)}
    longest = world.largest(max(len(rollout.completion.token_ids) for rollout in rollouts))
    (errors,) = world.total(sum(len(rollout.reward_errors) for rollout in rollouts))
    return means | {"completions/max_length": float(longest), "reward_errors": errors}
