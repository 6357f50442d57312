"""zero2, zero3: shards by DeepSpeed. ZeRO-2 cuts gradients and optimiser state, ZeRO-3 the weights too.

Its first use on a machine builds an extension with g++ (20-30 s). Weights that no gradient reaches decay here, since
their shards lie among others'; the other backends leave them alone.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpe_ray.errors import TrainingError
from dpe_ray.train.backends.port import TensorsOut
from dpe_ray.train.batching import MicroBatch
from dpe_ray.train.logprobs import CompletionLogprobs, Scored
from dpe_ray.train.optimizer import UpdateRule, Weights, copied, require_finite, trainable_weights
from dpe_ray.train.world import World

MOMENTS = ("exp_avg", "exp_avg_sq")
BUCKET = 50_000_000
"""Numbers that are sent at once."""


class Zero:
    """A Backend on a DeepSpeed engine."""

    def __init__(self, scorer: CompletionLogprobs, rule: UpdateRule, world: World, device: str, stage: int) -> None:
        self._deepspeed = _import_deepspeed(device)
        self.weights: Weights = trainable_weights(scorer)
        self.optimizer = rule.optimizer(self.weights)
        scorer.agree = lambda count: world.largest(count)
        self._engine, *_ = self._deepspeed.initialize(
            model=TensorsOut(scorer),
            optimizer=self.optimizer,
            config=_config(stage, rule.max_grad_norm, next(iter(self.weights.values())).dtype),
            dist_init_required=False,
        )
        self._engine.eval()  # no dropout, as before
        self._sharded = stage == 3
        self.parts: Weights = {name: self._part(weight) for name, weight in self.weights.items()}
        self._world = world

    def score(self, batch: MicroBatch) -> Scored:
        """As `Backend.score`."""
        return Scored(*self._engine(batch))

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """As `Backend.backward`. DeepSpeed takes the mean over ranks."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._world.size)

    def step(self, loss: float) -> float:
        """As `Backend.step`. The norm is known only after the update: the weights are spoilt when it is not finite."""
        require_finite(loss, 0.0)
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        require_finite(loss, norm)
        return norm

    def whole(self, tensors: Mapping[str, Tensor]) -> Weights:
        """As `Backend.whole`. One tensor at a time is gathered on every rank."""
        full: Weights = {}
        for name, tensor in tensors.items():
            with self._gathered(tensor):
                if self._world.rank == 0:
                    full[name] = copied(tensor)
        return full

    def state(self) -> dict[str, Any]:
        """As `Backend.state`. Weights in the precision of the optimiser."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        state: dict[str, Any] = {"weights": {}, "moments": {}}
        steps = [entry["step"] for entry in self.optimizer.state.values()]
        for name, weight in self.weights.items():
            value = safe_get_full_fp32_param(weight)
            moments = {key: safe_get_full_optimizer_state(weight, key) for key in MOMENTS if steps}
            if self._world.rank == 0:
                state["weights"][name] = copied(value).view(self._shape(weight))
                state["moments"][name] = {key: copied(moment) for key, moment in moments.items()}
                state["moments"][name] |= {"step": copied(steps[0])} if steps else {}
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `Backend.load_state`."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if any(state["moments"].values()):
            self._open_moments(next(iter(state["moments"].values()))["step"])
        for name, weight in self.weights.items():
            value = state["weights"][name].to(weight.device)
            with torch.no_grad(), self._gathered(weight, writer=0):
                weight.copy_(value)
            safe_set_full_fp32_param(weight, value)
            for key in MOMENTS:
                if key in state["moments"].get(name, {}):
                    safe_set_full_optimizer_state(weight, state["moments"][name][key].to(weight.device), key)

    def _open_moments(self, step: Tensor) -> None:
        """AdamW makes its state at the first update; DeepSpeed can only set what is there."""
        inner = self._engine.optimizer
        flats = inner.fp32_partitioned_groups_flat if self._sharded else inner.single_partition_of_fp32_groups
        for flat in flats:
            self.optimizer.state[flat] = {key: torch.zeros_like(flat.data) for key in MOMENTS} | {"step": step.clone()}
        if not self._sharded:
            inner._lazy_init_hp_params_optimizer_state()

    def _gathered(self, tensor: Tensor, writer: int | None = None) -> Any:
        """Hold a tensor whole; what `writer` changes in it is passed on to all ranks."""
        sharded = self._sharded and hasattr(tensor, "ds_id")
        return self._deepspeed.zero.GatheredParameters([tensor], modifier_rank=writer, enabled=sharded)

    def _part(self, weight: Any) -> Tensor:
        """The shard of ZeRO-3, which lies in a tensor of its own."""
        return weight.ds_tensor if self._sharded else weight

    def _shape(self, weight: Any) -> torch.Size:
        return weight.ds_shape if self._sharded else weight.shape


def _import_deepspeed(device: str) -> Any:
    if torch.device(device).type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # Ray Train sets it; DeepSpeed asks for it everywhere
    try:
        import deepspeed
        from deepspeed.utils import logger
    except ImportError as error:
        raise TrainingError("train.backend zero2 and zero3 need DeepSpeed: pip install 'dpe-ray[deepspeed]'") from error
    logger.setLevel("ERROR")
    deepspeed.init_distributed(verbose=False)
    return deepspeed


def _config(stage: int, max_grad_norm: float, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": max_grad_norm,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "reduce_bucket_size": BUCKET,
            "allgather_bucket_size": BUCKET,
            # the reference's shards take the place of the policy's: nothing may stay gathered, or be fetched early
            "stage3_param_persistence_threshold": 0,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_reuse_distance": 0,
        },
    }
