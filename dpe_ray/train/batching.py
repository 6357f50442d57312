"""Scored groups -> padded tensors. Axes: G group, B sequences of a micro-batch, S prompt tokens, T completion tokens.

    [pad pad p p p | c c c pad]

Prompts are padded on the left and completions on the right, so that every completion starts in column S.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import torch
from torch import Tensor

from dpe_ray.errors import TrainingError
from dpe_ray.train.advantage import equal_rewards, group_advantages
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import Prompt, RolloutGroup

DEFAULTS = GrpoSettings()


@dataclass(frozen=True)
class TrainingSequence:
    """One rollout, ready for the update."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    """[S], image tokens expanded, as the engine saw them."""
    completion_ids: tuple[int, ...]
    """[T]"""
    rollout_logprobs: tuple[float, ...]
    """[T], from the engine."""
    advantage: float
    weight: float = 1.0
    """1, or 0 for a sequence that is only computed to keep the ranks in step."""

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass sees."""

    prompts: tuple[Prompt, ...]
    """[B]"""
    prompt_ids: tuple[tuple[int, ...], ...]
    """[B], as the engine saw them."""
    input_ids: Tensor
    """[B, S + T]"""
    attention_mask: Tensor
    """[B, S + T], 0 at padding."""
    completion_ids: Tensor
    """[B, T]"""
    mask: Tensor
    """[B, T], 1 at completion tokens, float."""
    rollout_logprobs: Tensor
    """[B, T]"""
    advantages: Tensor
    """[B]"""
    weights: Tensor
    """[B], 1 or 0."""


def permute_rewards(group: RolloutGroup, seed: int) -> RolloutGroup:
    """Deal the group's rewards out anew: the same multiset, and nothing to learn. A control experiment."""
    rewards = [rollout.reward for rollout in group.rollouts]
    random.Random(seed).shuffle(rewards)
    dealt = (replace(rollout, reward=reward) for rollout, reward in zip(group.rollouts, rewards, strict=True))
    return replace(group, rollouts=tuple(dealt))


def informative(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """Keep the groups whose rewards differ; the others have no advantage and would only pull towards the reference."""
    return [group for group in groups if not equal_rewards([rollout.reward for rollout in group.rollouts])]


def training_sequences(group: RolloutGroup, settings: GrpoSettings = DEFAULTS) -> list[TrainingSequence]:
    """[G] sequences with the group's advantages; fewer where `settings` leave truncated ones out.

    Raises TrainingError when the engine left out ids or log-probs.
    """
    advantages = group_advantages(
        [rollout.reward for rollout in group.rollouts],
        scale=settings.scale_rewards,
        ddof=settings.std_ddof,
        eps=settings.std_eps,
    )
    sequences = []
    for rollout, advantage in zip(group.rollouts, advantages, strict=True):
        completion = rollout.completion
        if settings.mask_truncated_completions and not completion.finished:
            continue
        if not group.prompt_ids or len(completion.logprobs) != len(completion.token_ids):
            raise TrainingError(
                f"sample {group.prompt.sample.id}: the rollouts carry no token ids or log-probs; "
                "train with an engine that returns them"
            )
        sequences.append(
            TrainingSequence(group.prompt, group.prompt_ids, completion.token_ids, completion.logprobs, advantage)
        )
    return sequences


def split_updates(groups: Sequence[RolloutGroup], updates: int) -> list[list[RolloutGroup]]:
    """Cut into `updates` runs of whole groups, sizes differing by at most one; some are empty when groups are few."""
    edges = [len(groups) * index // updates for index in range(updates + 1)]
    return [list(groups[start:end]) for start, end in pairwise(edges)]


def pack(groups: Iterable[RolloutGroup], settings: GrpoSettings) -> list[list[TrainingSequence]]:
    """Cut into micro-batches: groups of similar length together, their members in a row.

    A group's prompt and picture are computed once per micro-batch, so only a group larger than one is cut.
    """
    size = settings.micro_batch
    members_of = (training_sequences(group, settings) for group in groups)
    by_group = sorted(filter(None, members_of), key=lambda members: max(member.length for member in members))
    batches: list[list[TrainingSequence]] = []
    for part in chain.from_iterable(cut(members, size) for members in by_group):
        if batches and len(batches[-1]) + len(part) <= size:
            batches[-1].extend(part)
        else:
            batches.append(part)
    return batches


def cut(sequences: Sequence[TrainingSequence], size: int) -> list[list[TrainingSequence]]:
    """Micro-batches of `size` sequences, the last one smaller, in order."""
    return [list(sequences[start : start + size]) for start in range(0, len(sequences), size)]


def idle(group: RolloutGroup) -> list[TrainingSequence]:
    """Make a micro-batch that costs a forward pass and changes nothing."""
    return [replace(training_sequences(group)[0], advantage=0.0, weight=0.0)]


def collate(sequences: Sequence[TrainingSequence], pad_id: int, device: str = "cpu") -> MicroBatch:
    """Pad [B] sequences into tensors."""
    prompt_width = max(len(sequence.prompt_ids) for sequence in sequences)
    width = max(1, max(len(sequence.completion_ids) for sequence in sequences))
    ids, attention, logprobs = [], [], []
    for sequence in sequences:
        left, right = prompt_width - len(sequence.prompt_ids), width - len(sequence.completion_ids)
        ids.append([pad_id] * left + [*sequence.prompt_ids, *sequence.completion_ids] + [pad_id] * right)
        attention.append([0] * left + [1] * sequence.length + [0] * right)
        logprobs.append([*sequence.rollout_logprobs] + [0.0] * right)
    input_ids = torch.tensor(ids, device=device)
    attention_mask = torch.tensor(attention, device=device)
    return MicroBatch(
        prompts=tuple(sequence.prompt for sequence in sequences),
        prompt_ids=tuple(sequence.prompt_ids for sequence in sequences),
        input_ids=input_ids,
        attention_mask=attention_mask,
        completion_ids=input_ids[:, prompt_width:],
        mask=attention_mask[:, prompt_width:].float(),
        rollout_logprobs=torch.tensor(logprobs, device=device),
        advantages=torch.tensor([sequence.advantage for sequence in sequences], device=device),
        weights=torch.tensor([sequence.weight for sequence in sequences], device=device),
    )
