"""What a way of spreading a policy over the ranks must do, and the reference that all ways share."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dpe_ray.train.batching import MicroBatch
from dpe_ray.train.logprobs import CompletionLogprobs, Scored
from dpe_ray.train.optimizer import Weights


class Backend(Protocol):
    """A policy and its optimiser on all ranks. Every rank makes the same calls in the same order.

    That holds for forward passes too: a rank that ran one more, or a module that others did not, would pair its
    collective operations with later ones of theirs, without an error (seen with FSDP2 on gloo).
    """

    weights: Weights
    """Name to parameter of all that is trained, as this rank holds it: whole, or its shard."""
    optimizer: torch.optim.AdamW
    """What a learning-rate schedule takes."""
    reference: "Reference"

    def score(self, batch: MicroBatch) -> Scored:
        """Run the policy; with gradient unless the caller switched it off."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a micro-batch's gradients up, over ranks too; `last` of an update."""
        ...

    def step(self, loss: float) -> float:
        """Apply and forget the gradients that all ranks have summed up; returns their norm before clipping.

        `loss` is only looked at: where it or the norm is not finite, TrainingError is raised.
        """
        ...

    def whole(self, tensors: Mapping[str, Tensor]) -> Weights:
        """Full copies of parameters and buffers of the policy on the CPU of rank 0; nothing on other ranks."""
        ...

    def state(self) -> dict[str, Any]:
        """Weights and moments to go on from, full copies by name, on rank 0. Fits any number of ranks."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`, of which every rank passes its own copy."""
        ...


class Reference:
    """The trained weights as they were when training began, frozen: this rank's part of them."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        """`parts` are what this rank computes with, such as its shards, under the names of the weights."""
        self._parts = {name: part.detach() for name, part in parts.items()}
        self._copies = {name: part.clone() for name, part in self._parts.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The reference's weights stand in the policy. Not between a forward pass and its backward pass."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def hash(self) -> str:
        """SHA-256 of this rank's part: stays the same for the whole round."""
        digest = hashlib.sha256()
        for name, copy in sorted(self._copies.items()):
            digest.update(name.encode())
            digest.update(copy.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _swap(self) -> None:
        """Its own inverse; needs room for one more weight at a time."""
        for name, part in self._parts.items():
            held, copy = part.clone(), self._copies[name]
            part.copy_(copy)
            copy.copy_(held)


class TensorsOut(nn.Module):
    """The root of a sharded module: FSDP2 and DeepSpeed look for tensors in what a module returns."""

    def __init__(self, scorer: CompletionLogprobs) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Fields of `Scored`."""
        scored: Scored = self.scorer(batch)
        return scored.logprobs, scored.entropy, scored.likeliest
