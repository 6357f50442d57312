"""Rationales for samples that come without one: the policy's own, where they end at the right answer.

The targets of labelled sets are short. A policy trained on them alone stops to work its answers out, and a later
diagnosis finds no steps to look for the mistake in. So a share of the samples is answered by the policy itself before
it is trained, and a right answer in numbered steps becomes the target (rejection sampling, as in STaR, arXiv
2203.14465).
"""

import json
import logging
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dpe_ray.ports import RolloutPool
from dpe_ray.seeds import child_seed
from dpe_ray.train.loop import roll_out
from dpe_ray.train.reward import accuracy, answer_format
from dpe_ray.train.settings import SftSettings
from dpe_ray.train.targets import contradicts, rationale_steps
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup, Sample

log = logging.getLogger(__name__)

PROMPTS_PER_CALL = 64


def with_rationales(
    policy: PolicyRef,
    prompts: Sequence[Prompt],
    pool: RolloutPool,
    settings: SftSettings,
    *,
    file: Path,
    seed: int,
    world: World,
) -> list[Prompt]:
    """Give samples a rationale until `rationale_share` of them has one, or none is left to try; order is kept.

    Costs at most `group_size` sampled answers for every sample without a rationale. Rank 0 samples them and leaves
    them in `file`: every rank reads it, and after a restart nobody is asked again.
    """
    wanted = math.ceil(settings.rationale_share * len(prompts)) - sum(map(has_rationale, prompts))
    if wanted <= 0:
        return list(prompts)
    sampling = _sample(policy, prompts, pool, settings, wanted=wanted, file=file, seed=seed)
    work = iter(()) if world.rank or file.exists() else sampling
    # One meeting of the ranks per call of the pool: a rank that waited for all of them would be taken for dead.
    while world.largest(int(next(work, False))):
        continue
    rationales: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    if len(rationales) < wanted:
        log.warning("%d of %d wanted rationales: the policy worked out no others", len(rationales), wanted)
    return [_with(prompt, rationales.get(prompt.sample.id, "")) for prompt in prompts]


def has_rationale(prompt: Prompt) -> bool:
    """Whether the sample's completion has steps."""
    return bool(rationale_steps(prompt.sample.rationale))


def worked_out(group: RolloutGroup) -> str:
    """The first rollout with numbered steps that state no other answer, one closing answer line and the right answer.

    Empty without one.
    """
    sample = group.prompt.sample
    texts = (rollout.completion.text for rollout in group.rollouts)
    return next((text for text in texts if _is_sound(sample, text)), "")


def _is_sound(sample: Sample, text: str) -> bool:
    right = accuracy(sample, text) and answer_format(sample, text)
    return bool(right) and not contradicts(replace(sample, rationale=text))


def _sample(
    policy: PolicyRef,
    prompts: Sequence[Prompt],
    pool: RolloutPool,
    settings: SftSettings,
    *,
    wanted: int,
    file: Path,
    seed: int,
) -> Iterator[bool]:
    """Write `wanted` rationales by sample id, or as many as there are; gives True after every call of the pool."""
    lacking = [prompt for prompt in prompts if not has_rationale(prompt)]
    random.Random(child_seed(seed, "rationales")).shuffle(lacking)
    pool.publish(policy)
    found: dict[str, str] = {}
    for start in range(0, len(lacking), PROMPTS_PER_CALL):
        part = lacking[start : start + PROMPTS_PER_CALL]
        groups = roll_out(pool, part, settings, policy.version, child_seed(seed, "rationales", start))
        found |= {group.prompt.sample.id: text for group in groups if (text := worked_out(group))}
        yield True
        if len(found) >= wanted:
            break
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps(dict(list(found.items())[:wanted])), encoding="utf-8")
    os.replace(draft, file)


def _with(prompt: Prompt, rationale: str) -> Prompt:
    return replace(prompt, sample=replace(prompt.sample, rationale=rationale)) if rationale else prompt
