"""What a way of spreading a policy over the ranks must do."""

from collections.abc import Mapping
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
    """Name to parameter of all that the optimiser changes, as this rank holds it: whole, or its shard; in 32 bit."""
    optimizer: torch.optim.AdamW
    """What a learning-rate schedule takes."""
    parts: Weights
    """What this rank computes with, or gathers from: changed in place between passes, the policy computes with it."""

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


class TensorsOut(nn.Module):
    """The root of a sharded module: FSDP2 and DeepSpeed look for tensors in what a module returns."""

    def __init__(self, scorer: CompletionLogprobs) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Fields of `Scored`."""
        scored: Scored = self.scorer(batch)
        return scored.logprobs, scored.entropy, scored.likeliest
