"""fsdp2: weights, gradients and optimiser state in shards, whole only while a layer computes (torch's fully_shard)."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dpe_ray.train.backends.port import TensorsOut
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


class FullySharded:
    """A Backend. Layers are gathered one by one; embeddings, head and what else is no layer together, for a pass."""

    def __init__(self, scorer: CompletionLogprobs, rule: UpdateRule, world: World, device: str) -> None:
        shard = partial(fully_shard, mesh=init_device_mesh(torch.device(device).type, (world.size,)))
        for layer in layers(scorer):
            shard(layer)
        # Between two passes nothing stays whole: the reference's shards could not take its place.
        self._root: Any = shard(TensorsOut(scorer), reshard_after_forward=True)
        held = trainable_weights(scorer)
        self.parts: Weights = {name: _local(weight) for name, weight in held.items()}
        self._masters = Masters(held)
        self.weights = self._masters.weights
        self.optimizer = rule.optimizer(self.weights)
        self._rule = rule
        self._world = world

    def score(self, batch: MicroBatch) -> Scored:
        """As `Backend.score`."""
        return Scored(*self._root(batch))

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """As `Backend.backward`. FSDP2 takes the mean over ranks."""
        (loss * self._world.size).backward()  # type: ignore[no-untyped-call]
        self._masters.take_gradients()

    def step(self, loss: float) -> float:
        """As `Backend.step`. The weights stay when it raises."""
        norm = float(_full(torch.nn.utils.clip_grad_norm_(self.weights.values(), self._rule.max_grad_norm)))
        require_finite(loss, norm)
        self.optimizer.step()
        self._masters.give_weights()
        self.optimizer.zero_grad()
        return norm

    def whole(self, tensors: Mapping[str, Tensor]) -> Weights:
        """As `Backend.whole`. One tensor at a time is gathered on every rank."""
        gathered = ((name, _full(tensor.detach())) for name, tensor in tensors.items())
        return {name: copied(tensor) for name, tensor in gathered if self._world.rank == 0}

    def state(self) -> dict[str, Any]:
        """As `Backend.state`."""
        moments = moments_of(self.optimizer, self.weights, self._whole_on_first)
        return {"weights": self.whole(self.weights), "moments": moments if self._world.rank == 0 else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `Backend.load_state`."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(_laid_out(state["weights"][name], weight))
        self._masters.give_weights()
        load_moments(self.optimizer, self.weights, state["moments"], _laid_out)

    def _whole_on_first(self, tensor: Tensor) -> Tensor:
        full = _full(tensor)
        return copied(full) if self._world.rank == 0 else full.new_empty(0)


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """Outermost members of module lists: the layers of the language model and of the picture tower."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from layers(child)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _laid_out(full: Tensor, weight: Tensor) -> Tensor:
    """Cut out this rank's shard of what every rank has whole."""
    assert isinstance(weight, DTensor)
    full = full.to(weight.device, weight.dtype)
    return distribute_tensor(full, weight.device_mesh, weight.placements, src_data_rank=None)
