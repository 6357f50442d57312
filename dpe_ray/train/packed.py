"""A micro-batch as one row without padding, in which sequences of one prompt share its tokens.

    [p p p | q q | c c c | d d | e e e e]        c and d answer p, e answers q

Axes: N tokens of the row, Q distinct prompts, B sequences, S longest prompt, T longest completion, M completion tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpe_ray.train.batching import MicroBatch


@dataclass(frozen=True)
class PackedRow:
    """Tokens in the order of the row, and where in it each one stands; places of padding are 0."""

    ids: Tensor
    """[1, N]"""
    in_prompt: Tensor
    """[1, N] bool"""
    owners: Tensor
    """[B], the prompt of each sequence as an index into Q."""
    prompts: Tensor
    """[Q, S] places, padded on the right."""
    prompt_tokens: Tensor
    """[Q, S] bool, False at padding."""
    completions: Tensor
    """[B, T] places, padded on the right."""
    completion_tokens: Tensor
    """[B, T] bool, False at padding."""
    mask: Tensor
    """[B, 1, T, S + T], or [1, 1, T, S + T] where prompts are of equal length: 0 where a completion token sees a token
    of its prompt or of its own completion, -inf elsewhere."""

    @property
    def before(self) -> Tensor:
        """[M] places of the tokens that completion tokens are predicted from."""
        last = self.prompts.gather(1, self.prompt_tokens.sum(dim=1, keepdim=True) - 1)[self.owners]
        return torch.cat([last, self.completions[:, :-1]], dim=1)[self.completion_tokens]

    def positions(self, prompts: Sequence[Tensor]) -> Tensor:
        """[K, 1, N] positions of all tokens from those of each prompt, [K, its length].

        A completion goes on after its prompt's largest position in any of the K kinds.
        """
        starts = torch.stack([prompt.amax() + 1 for prompt in prompts])[self.owners]
        steps = torch.arange(self.completions.shape[1], device=starts.device)
        completions = (starts[:, None] + steps)[self.completion_tokens]
        return torch.cat([*prompts, completions.expand(len(prompts[0]), -1)], dim=1)[:, None]


def pack_row(batch: MicroBatch, owners: Sequence[int], dtype: torch.dtype) -> PackedRow:
    """Lay a micro-batch out; `owners` [B] numbers the distinct prompts from 0 as they appear."""
    device, width = batch.input_ids.device, batch.input_ids.shape[1] - batch.completion_ids.shape[1]
    owner = torch.tensor(owners, device=device)
    first = torch.tensor([owners.index(prompt) for prompt in range(max(owners) + 1)], device=device)
    in_prompts, in_completions = batch.attention_mask[first, :width].bool(), batch.mask.bool()
    prompts, prompt_tokens = _places(in_prompts.sum(dim=1), 0)
    completions, completion_tokens = _places(in_completions.sum(dim=1), int(in_prompts.sum()))
    ids = torch.cat([batch.input_ids[first, :width][in_prompts], batch.completion_ids[in_completions]])
    return PackedRow(
        ids=ids[None],
        in_prompt=(torch.arange(len(ids), device=device) < in_prompts.sum())[None],
        owners=owner,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        completions=completions,
        completion_tokens=completion_tokens,
        mask=_mask(prompt_tokens, owner, completions.shape[1], dtype),
    )


def packed_size(batch: MicroBatch, owners: Sequence[int]) -> int:
    """Tokens N that the row of a micro-batch has."""
    width = batch.input_ids.shape[1] - batch.completion_ids.shape[1]
    first = [owners.index(prompt) for prompt in range(max(owners) + 1)]
    return int(batch.attention_mask[first, :width].sum() + batch.mask.sum())


def _places(lengths: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Places of runs of tokens that follow each other from `start`, and where a run has a token."""
    steps = torch.arange(max(1, int(lengths.max())), device=lengths.device)
    inside = steps < lengths[:, None]
    places = start + (lengths.cumsum(0) - lengths)[:, None] + steps
    return places.masked_fill(~inside, 0), inside


def _mask(prompt_tokens: Tensor, owners: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    seen = prompt_tokens[:1] if bool(prompt_tokens.all()) else prompt_tokens[owners]
    own = torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
    rows = len(seen)
    visible = torch.cat([seen[:, None].expand(-1, width, -1), own.expand(rows, -1, -1)], dim=2)[:, None]
    return torch.zeros(visible.shape, dtype=dtype, device=seen.device).masked_fill(~visible, float("-inf"))
