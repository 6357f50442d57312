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
    """The tokens of a row, where in it each one stands, and what it sees.

    A place is an index into the row, 0 for padding. A slot is an index of a real token into flattened places.
    """

    ids: Tensor
    """[1, N]"""
    in_prompt: Tensor
    """[1, N] bool"""
    owners: Tensor
    """[B], the prompt of each sequence as an index into Q."""
    prompts: Tensor
    """[Q, S] places, padded on the right."""
    prompt_slots: Tensor
    """[N - M]"""
    completions: Tensor
    """[B, T] places, padded on the right."""
    completion_slots: Tensor
    """[M]"""
    before: Tensor
    """[M] places of the tokens that completion tokens are predicted from."""
    seen: Tensor
    """[B, S + T] places of what a completion may see: its prompt, then itself."""
    mask: Tensor
    """[B, 1, T, S + T], or [1, 1, T, S + T] where prompts are of equal length: 0 where a completion token sees one of
    `seen`, -inf elsewhere."""

    def positions(self, prompts: Sequence[Tensor]) -> Tensor:
        """[K, 1, N] positions of all tokens from those of each prompt, [K, its length].

        A completion goes on after its prompt's largest position in any of the K kinds.
        """
        starts = torch.stack([prompt.amax() + 1 for prompt in prompts])[self.owners]
        steps = torch.arange(self.completions.shape[1], device=starts.device)
        completions = (starts[:, None] + steps).flatten()[self.completion_slots]
        return torch.cat([*prompts, completions.expand(len(prompts[0]), -1)], dim=1)[:, None]


def pack_row(batch: MicroBatch, owners: Sequence[int], dtype: torch.dtype) -> PackedRow:
    """Lay a micro-batch out; `owners` [B] numbers the distinct prompts from 0 as they appear."""
    owner = torch.tensor(owners, device=batch.input_ids.device)
    first, width = _first(owners), batch.input_ids.shape[1] - batch.completion_ids.shape[1]
    in_prompts, in_completions = batch.attention_mask[first, :width].bool(), batch.mask.bool()
    lengths = in_prompts.sum(dim=1)
    ids = torch.cat([batch.input_ids[first, :width][in_prompts], batch.completion_ids[in_completions]])
    prompts, in_prompts = _places(lengths, 0)
    completions, in_completions = _places(in_completions.sum(dim=1), int(lengths.sum()))
    last = prompts.gather(1, lengths[:, None] - 1)[owner]
    completion_slots = in_completions.flatten().nonzero()[:, 0]
    return PackedRow(
        ids=ids[None],
        in_prompt=(torch.arange(len(ids), device=ids.device) < lengths.sum())[None],
        owners=owner,
        prompts=prompts,
        prompt_slots=in_prompts.flatten().nonzero()[:, 0],
        completions=completions,
        completion_slots=completion_slots,
        before=torch.cat([last, completions[:, :-1]], dim=1).flatten()[completion_slots],
        seen=torch.cat([prompts[owner], completions], dim=1),
        mask=_mask(in_prompts, owner, completions.shape[1], dtype),
    )


def packed_size(batch: MicroBatch, owners: Sequence[int]) -> int:
    """Tokens N that the row of a micro-batch has."""
    width = batch.input_ids.shape[1] - batch.completion_ids.shape[1]
    return int(batch.attention_mask[_first(owners), :width].sum() + batch.mask.sum())


def _first(owners: Sequence[int]) -> list[int]:
    """[Q] first sequence of each prompt."""
    return [owners.index(prompt) for prompt in range(max(owners) + 1)]


def _places(lengths: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Places of runs of tokens that follow each other from `start`, and where a run has a token."""
    steps = torch.arange(max(1, int(lengths.max())), device=lengths.device)
    inside = steps < lengths[:, None]
    places = start + (lengths.cumsum(0) - lengths)[:, None] + steps
    return places.masked_fill(~inside, 0), inside


def _mask(in_prompts: Tensor, owners: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    seen = in_prompts[:1] if bool(in_prompts.all()) else in_prompts[owners]
    own = torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
    visible = torch.cat([seen[:, None].expand(-1, width, -1), own.expand(len(seen), -1, -1)], dim=2)[:, None]
    return torch.zeros(visible.shape, dtype=dtype, device=seen.device).masked_fill(~visible, float("-inf"))
