"""One call for every method of fine-tuning: GRPO, SFT, or SFT and then GRPO on the same samples."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from dpe_ray.ports import RolloutPool
from dpe_ray.train import loop, sft_loop
from dpe_ray.train.accepts import usable
from dpe_ray.train.metrics import OnStep, ignore_step
from dpe_ray.train.settings import ChainSettings, Settings, SftSettings
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, TrainResult, content_id


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

    Samples that a method cannot use are left out of it and counted by reason in the result. Raises TrainingError when
    a method has none left, before anything is loaded.
    """
    world = world or World()
    taken = {stage: usable(stage, prompts) for stage in settings.stages}
    if isinstance(settings, ChainSettings):
        return _chain(policy, prompts, pool, settings, out, seed, world, on_step)
    (stage,) = settings.stages
    kept, refused = taken[stage]
    if isinstance(settings, SftSettings):
        result = sft_loop.train(policy, kept, pool, settings, out=out, seed=seed, world=world, on_step=on_step)
    else:
        result = loop.train(policy, kept, pool, settings, out=out, seed=seed, world=world, on_step=on_step)
    return replace(result, refused=refused | result.refused)


def _chain(
    policy: PolicyRef,
    prompts: Sequence[Prompt],
    pool: RolloutPool,
    settings: ChainSettings,
    out: str,
    seed: int,
    world: World,
    on_step: OnStep,
) -> TrainResult:
    """Run both methods; the policy after the first is the second's start, and so its reference.

    What the first left stands below OUT/sft until the second is over.
    """
    folder, file = Path(out) / "sft", Path(out) / "sft.json"
    key = content_id([(p.sample.id, p.sample.rationale) for p in prompts], asdict(policy), asdict(settings), seed)
    first = _finished(file, key)
    if first is None:
        first = finetune(policy, prompts, pool, settings.sft, out=str(folder), seed=seed, world=world, on_step=on_step)
        if world.rank == 0:
            _write(file, key, first)
    done = first.steps
    second = finetune(
        first.policy,
        prompts,
        pool,
        settings.grpo,
        out=out,
        seed=seed,
        world=world,
        on_step=lambda step, metrics, groups: on_step(done + step, metrics, groups),
    )
    if world.rank == 0:
        file.unlink()
        shutil.rmtree(folder)
    trained = replace(second.policy, version=policy.version + 1)
    refused = first.refused | second.refused
    return TrainResult(trained, done + second.steps, first.metrics + second.metrics, refused)


def _write(file: Path, key: str, result: TrainResult) -> None:
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps({"key": key, "result": asdict(result)}), encoding="utf-8")
    os.replace(draft, file)


def _finished(file: Path, key: str) -> TrainResult | None:
    """What the first method left, when it was over before a restart."""
    if not file.exists():
        return None
    state = json.loads(file.read_text(encoding="utf-8"))
    if state["key"] != key:
        return None
    result = state["result"]
    return TrainResult(PolicyRef(**result["policy"]), result["steps"], tuple(result["metrics"]), result["refused"])
