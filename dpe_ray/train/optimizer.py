"""One optimiser update over all ranks: gradients summed, clipped, checked, applied. The same for every loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dpe_ray.errors import TrainingError
from dpe_ray.train.world import World

Weights = dict[str, Tensor]


def trainable_weights(module: nn.Module) -> Weights:
    """Name to parameter of all that a load for training left open. Raises TrainingError when that is nothing."""
    weights: Weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not weights:
        raise TrainingError("no weight of the policy is trainable; load it for training")
    return weights


def rate_groups(weights: Mapping[str, Tensor], rate: Callable[[str], float]) -> list[dict[str, Any]]:
    """Parameter groups of the optimiser: weights whose names have equal learning rates together."""
    rates = sorted({rate(name) for name in weights}, reverse=True)
    return [{"params": [w for name, w in weights.items() if rate(name) == value], "lr": value} for value in rates]


class DataParallelOptimizer:
    """AdamW on every rank's own copy of the weights: equal gradients keep the copies equal."""

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, weight_decay: float, max_grad_norm: float, world: World
    ) -> None:
        self._weights: list[Tensor] = [weight for group in groups for weight in group["params"]]
        self._max_grad_norm = max_grad_norm
        self._world = world
        self.torch = torch.optim.AdamW(list(groups), weight_decay=weight_decay)
        """What a learning-rate schedule takes."""

    def zero_grad(self) -> None:
        """Forget the gradients of the update before."""
        self.torch.zero_grad()

    def step(self, loss: float) -> float:
        """Apply the gradients that all ranks have summed up by `backward`; returns their norm before clipping.

        `loss` is only looked at: where it or the norm is not finite, TrainingError is raised and the weights stay.
        """
        self._add_gradients()
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights, self._max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(f"loss {loss} with gradient norm {norm} is not finite; lower train.lr")
        self.torch.step()
        return norm

    def _add_gradients(self) -> None:
        """Sum over ranks, in one message. A weight outside the forward pass has no gradient on any rank."""
        if self._world.size == 1:
            return
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._world.add(flat)
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def save_weights(weights: Mapping[str, Tensor]) -> Weights:
    """Copies in memory of the CPU, for a checkpoint."""
    return {name: weight.detach().cpu() for name, weight in weights.items()}


def load_weights(weights: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Overwrite in place."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[name])
