"""One call for every method of fine-tuning: GRPO, SFT, or SFT and then GRPO on the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpe_ray.ports import RolloutPool
from dpe_ray.train import loop, sft_loop
from dpe_ray.train.accepts import usable
from dpe_ray.train.ending import SFT, Ending, training_key
from dpe_ray.train.metrics import Metrics, OnStep, ignore_step
from dpe_ray.train.settings import ChainSettings, GrpoSettings, Settings, SftSettings
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup, TrainResult


def finetune(
    policy: PolicyRef,
    prompts: Sequence[Prompt],
    pool: RolloutPool,
    settings: Settings,
    *,
    out: str,
    seed: int,
    world: World | None = None,
    on_step: OnStep = ignore_step,
) -> TrainResult:
    """Train as the settings say; arguments, and how a killed run goes on, are those of `loop.train`.

    Called again after the end it returns what the training brought. Samples that a method cannot use are left out of it
    and counted by reason in the result. Raises TrainingError when a method has none left, before anything is loaded.
    """
    world = world or World()
    for stage in settings.stages:
        usable(stage, prompts)
    ending = Ending(out, training_key(policy, prompts, settings, seed), world)
    result = ending.result()
    if result is None:
        course = _Course(pool, out, seed, world, on_step)
        if isinstance(settings, ChainSettings):
            result = _chain(policy, prompts, settings, course)
        else:
            result = _alone(policy, prompts, settings, course)
        ending.write(result)
    ending.clear()
    return result


@dataclass(frozen=True)
class _Course:
    """What every method of a training is given."""

    pool: RolloutPool
    out: str
    seed: int
    world: World
    on_step: OnStep


def _alone(
    policy: PolicyRef, prompts: Sequence[Prompt], settings: GrpoSettings | SftSettings, course: _Course
) -> TrainResult:
    (stage,) = settings.stages
    kept, refused = usable(stage, prompts)
    out, seed, world, on_step = course.out, course.seed, course.world, course.on_step
    if isinstance(settings, SftSettings):
        result = sft_loop.train(policy, kept, course.pool, settings, out=out, seed=seed, world=world, on_step=on_step)
    else:
        result = loop.train(policy, kept, course.pool, settings, out=out, seed=seed, world=world, on_step=on_step)
    return replace(result, refused=refused | result.refused)


def _chain(policy: PolicyRef, prompts: Sequence[Prompt], settings: ChainSettings, course: _Course) -> TrainResult:
    """Run both methods; the policy after the first is the second's start, and so its reference."""
    first = finetune(
        policy,
        prompts,
        course.pool,
        settings.sft,
        out=str(Path(course.out) / SFT),
        seed=course.seed,
        world=course.world,
        on_step=course.on_step,
    )

    def on_step(step: int, metrics: Metrics, groups: Sequence[RolloutGroup]) -> None:
        course.on_step(first.steps + step, metrics, groups)

    second = _alone(first.policy, prompts, settings.grpo, replace(course, on_step=on_step))
    trained = replace(second.policy, version=policy.version + 1)
    refused = first.refused | second.refused
    return TrainResult(trained, first.steps + second.steps, first.metrics + second.metrics, refused)
