"""Which prompts a model can be trained on: found out with its own processor, before anything is paid for."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from dpe_ray.errors import ControlToken, TrainingError, UnfitPicture
from dpe_ray.models.policy import LoadedPolicy, answer_ids, require_plain
from dpe_ray.train.image_tokens import require_features
from dpe_ray.train.rendering import prompt_inputs
from dpe_ray.train.targets import completion_text
from dpe_ray.train.world import World
from dpe_ray.types import Prompt

log = logging.getLogger(__name__)

CONTROL = "a text holds a control token of the model"
PICTURE = "the model's processor cannot take a picture"
LONG = "longer than max_length"

Sizes = Mapping[tuple[str, str], int | str]
"""Sample id and text of a prompt -> its tokens, image tokens included, or why the model cannot be shown it."""
Split = tuple[list[Prompt], dict[str, int]]
"""Prompts that are left, in order, and how many are not, by reason."""


def sizes(prompts: Sequence[Prompt], policy: LoadedPolicy, world: World) -> Sizes:
    """Sizes of all prompts, on every rank. Each rank renders its share, with every picture.

    Raises PoolError when a picture cannot be read, TrainingError when the processor does not fit the model.
    """
    found = world.rejoined([_size(prompt, policy) for prompt in world.share(prompts)])
    return {_key(prompt): size for prompt, size in zip(prompts, found, strict=True)}


def without_control_tokens(prompts: Sequence[Prompt], policy: LoadedPolicy) -> Split:
    """Leave out, for GRPO, what can be told from a prompt's text alone."""
    return _split("grpo", prompts, [_in_text(prompt.text, policy) for prompt in prompts])


def fitting_prompts(prompts: Sequence[Prompt], found: Sizes) -> Split:
    """Leave out what the model cannot be shown. Raises TrainingError when none is left."""
    refusals = (found[_key(prompt)] for prompt in prompts)
    return _split("grpo", prompts, [refusal if isinstance(refusal, str) else "" for refusal in refusals])


def fitting_samples(prompts: Sequence[Prompt], found: Sizes, policy: LoadedPolicy, max_length: int) -> Split:
    """Leave out what the model cannot be shown with its sample's completion. Raises TrainingError when none is left."""
    reasons = [_of_completion(prompt, found[_key(prompt)], policy, max_length) for prompt in prompts]
    return _split("sft", prompts, reasons)


def _key(prompt: Prompt) -> tuple[str, str]:
    return prompt.sample.id, prompt.text


def _size(prompt: Prompt, policy: LoadedPolicy) -> int | str:
    try:
        inputs = prompt_inputs(policy.processor, prompt)
    except ControlToken:
        return CONTROL
    except UnfitPicture as error:
        log.warning("sample %s is left out: %s", prompt.sample.id, error)
        return PICTURE
    require_features(policy.model.config, inputs, prompt.sample.id)
    return int(inputs["input_ids"].shape[1])


def _in_text(text: str, policy: LoadedPolicy) -> str:
    try:
        require_plain(policy.processor, text)
    except ControlToken:
        return CONTROL
    return ""


def _of_completion(prompt: Prompt, size: int | str, policy: LoadedPolicy, max_length: int) -> str:
    if isinstance(size, str):
        return size
    try:
        completion = answer_ids(policy, completion_text(prompt.sample))
    except ControlToken:
        return CONTROL
    return LONG if size + len(completion) > max_length else ""


def _split(stage: str, prompts: Sequence[Prompt], reasons: Sequence[str]) -> Split:
    kept = [prompt for prompt, reason in zip(prompts, reasons, strict=True) if not reason]
    refused = Counter(f"{stage}: {reason}" for reason in reasons if reason)
    if not kept:
        told = ", ".join(f"{count} x {reason}" for reason, count in refused.items())
        raise TrainingError(f"no prompts to train on ({told or 'supply accepted none'}); give other samples")
    return kept, dict(refused)
