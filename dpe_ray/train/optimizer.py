"""AdamW by the rules of a training run, and its state by the names of the weights. The same for every loss."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpe_ray.errors import TrainingError

Weights = dict[str, Tensor]
Moments = dict[str, Weights]
"""Name of a weight to what AdamW keeps for it: exp_avg, exp_avg_sq and step."""


@dataclass(frozen=True)
class UpdateRule:
    """How gradients become an update."""

    rate: Callable[[str], float]
    """Learning rate of a weight, by its name."""
    weight_decay: float
    max_grad_norm: float
    """Gradients of all weights together are scaled down to this norm."""

    def optimizer(self, weights: Mapping[str, Tensor]) -> torch.optim.AdamW:
        """Make one with a parameter group for every learning rate."""
        rates = sorted({self.rate(name) for name in weights}, reverse=True)
        groups = [
            {"params": [w for name, w in weights.items() if self.rate(name) == rate], "lr": rate} for rate in rates
        ]
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)


def trainable_weights(module: nn.Module) -> Weights:
    """Name to parameter of all that a load for training left open. Raises TrainingError when that is nothing."""
    weights: Weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not weights:
        raise TrainingError("no weight of the policy is trainable; load it for training")
    return weights


def require_finite(loss: float, norm: float) -> None:
    """Raise TrainingError when the loss of an update or the norm of its gradients is infinite or no number."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(f"loss {loss} with gradient norm {norm} is not finite; lower train.lr")


def copied(tensor: Tensor) -> Tensor:
    """A copy in memory of the CPU, which no later update changes."""
    return tensor.detach().to("cpu", copy=True)


def moments_of(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor], whole: Callable[[Tensor], Tensor]
) -> Moments:
    """State of every weight that has been updated; `whole` makes a full copy of a tensor that may be sharded."""
    state = optimizer.state
    return {
        name: {key: whole(value) for key, value in state[weight].items()}
        for name, weight in weights.items()
        if weight in state
    }


def load_moments(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, Tensor],
    moments: Moments,
    part: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Put back; `part(full, weight)` lays a full tensor out as the weight is."""
    for name, saved in moments.items():
        weight = weights[name]
        optimizer.state[weight] = {key: part(v, weight) if v.dim() else v.clone() for key, v in saved.items()}
