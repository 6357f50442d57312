"""32-bit copies of weights in 16 bit: there gradients are added up and AdamW makes its steps (arXiv 1710.03740, 3.1).

A number in bf16 has 8 significant bits: a step of 1e-6 on a weight of 0.02 would be rounded away, every time.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dpe_ray.train.optimizer import Weights

FULL = 4
"""Bytes."""


class Masters:
    """What an optimiser is given in place of a policy's trained weights. Costs 4 bytes per 16-bit number, and its grad.

    Weights in 32 bit stand for themselves: nothing is copied.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights: Weights = {
            name: nn.Parameter(weight.detach().float()) if weight.itemsize < FULL else weight
            for name, weight in weights.items()
        }
        self._pairs = [(w, self.weights[name]) for name, w in weights.items() if self.weights[name] is not w]

    def take_gradients(self) -> None:
        """Add the gradients of the last backward pass to those of the copies, one after the other."""
        for weight, master in self._pairs:
            if weight.grad is not None:
                master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
                weight.grad = None

    @torch.no_grad()
    def give_weights(self) -> None:
        """Round the copies into the weights that the policy computes with."""
        for weight, master in self._pairs:
            weight.copy_(master)
