"""Completions of a step as people look at them."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpe_ray.types import ImageRef, Rollout, RolloutGroup


@dataclass(frozen=True)
class Shown:
    """One sampled completion."""

    sample: str
    """Id of the sample that was asked about."""
    prompt: str
    images: tuple[ImageRef, ...]
    answer: str
    """The one that is right."""
    completion: str
    reward: float
    policy_version: int


def shown_of(groups: Sequence[RolloutGroup], count: int, step: int) -> list[Shown]:
    """The best and the worst completion of some groups, at most `count` in all; each step begins with another group."""
    picked: list[Shown] = []
    for at in range(len(groups)):
        group = groups[(step + at) % len(groups)]
        ranked = sorted(group.rollouts, key=lambda rollout: -rollout.reward)
        picked += [_shown(group, rollout) for rollout in (ranked[0], ranked[-1])]
        if len(picked) >= count:
            break
    return picked[:count]


def _shown(group: RolloutGroup, rollout: Rollout) -> Shown:
    sample = group.prompt.sample
    return Shown(
        sample=sample.id,
        prompt=group.prompt.text,
        images=sample.images,
        answer=sample.answer.value,
        completion=rollout.completion.text,
        reward=rollout.reward,
        policy_version=group.policy_version,
    )
