"""ddp: every rank holds the whole policy and its own copy of the optimiser; gradients are summed, so copies stay equal.

Not torch's DistributedDataParallel: an update has several backward passes, some weights have a gradient in none of
them, and one sum after the last pass is all that is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dpe_ray.train.batching import MicroBatch
from dpe_ray.train.logprobs import CompletionLogprobs, Scored
from dpe_ray.train.masters import Masters
from dpe_ray.train.optimizer import (
    UpdateRule,
    Weights,
    copied,
    load_moments,
    moments_of,
    require_finite,
    trainable_weights,
)
from dpe_ray.train.world import World

MESSAGE = 2**26
"""Numbers that are summed at once: what a sum costs in memory beside the gradients, 256 MB in float32."""


class Replicated:
    """A Backend."""

    def __init__(self, scorer: CompletionLogprobs, rule: UpdateRule, world: World) -> None:
        self.parts: Weights = trainable_weights(scorer)
        self._masters = Masters(self.parts)
        self.weights = self._masters.weights
        self.optimizer = rule.optimizer(self.weights)
        self._scorer = scorer
        self._rule = rule
        self._world = world

    def score(self, batch: MicroBatch) -> Scored:
        """As `Backend.score`."""
        scored: Scored = self._scorer(batch)
        return scored

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """As `Backend.backward`; ranks are summed in `step`."""
        loss.backward()  # type: ignore[no-untyped-call]
        self._masters.take_gradients()

    def step(self, loss: float) -> float:
        """As `Backend.step`. The weights stay when it raises."""
        if self._world.size > 1:
            self._sum_over_ranks()
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights.values(), self._rule.max_grad_norm))
        require_finite(loss, norm)
        self.optimizer.step()
        self._masters.give_weights()
        self.optimizer.zero_grad()
        return norm

    def whole(self, tensors: Mapping[str, Tensor]) -> Weights:
        """As `Backend.whole`."""
        return {name: copied(tensor) for name, tensor in tensors.items() if self._world.rank == 0}

    def state(self) -> dict[str, Any]:
        """As `Backend.state`."""
        trained = self.weights if self._world.rank == 0 else {}
        return {"weights": self.whole(trained), "moments": moments_of(self.optimizer, trained, copied)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `Backend.load_state`."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        self._masters.give_weights()
        load_moments(self.optimizer, self.weights, state["moments"], lambda full, weight: full.to(weight, copy=True))

    def _sum_over_ranks(self) -> None:
        """A weight that no forward pass used has no gradient on any rank."""
        for gradients in _messages([weight.grad for weight in self.weights.values() if weight.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            self._world.add(flat)
            for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))


def _messages(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype after each other, together at most MESSAGE numbers; a larger one alone."""
    message: list[Tensor] = []
    for gradient in gradients:
        full = sum(g.numel() for g in message) + gradient.numel() > MESSAGE
        if message and (full or gradient.dtype != message[0].dtype):
            yield message
            message = []
        message.append(gradient)
    if message:
        yield message
