"""Ways of spreading a policy over the training workers, by name: `train.backend`.

    ddp      everything on every worker
    zero2    gradients and optimiser state in shards (DeepSpeed)
    fsdp2    weights too (torch)
    zero3    the same (DeepSpeed)

All make the same update up to rounding, and leave the same files.
"""

from dpe_ray.errors import TrainingError
from dpe_ray.train.backends.ddp import Replicated
from dpe_ray.train.backends.port import Backend
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.train.optimizer import UpdateRule
from dpe_ray.train.world import World

BACKENDS = ("ddp", "fsdp2", "zero2", "zero3")


def open_backend(name: str, scorer: CompletionLogprobs, rule: UpdateRule, world: World, device: str) -> Backend:
    """Spread a policy. All but ddp need the process group that `world` describes, also of one process.

    Raises TrainingError: no such backend, DeepSpeed not installed, nothing to train.
    """
    if name == "ddp":
        return Replicated(scorer.to(device), rule, world)
    if name == "fsdp2":
        from dpe_ray.train.backends.fsdp2 import FullySharded

        return FullySharded(scorer, rule, world, device)
    if name in ("zero2", "zero3"):
        from dpe_ray.train.backends.zero import Zero

        return Zero(scorer, rule, world, device, stage=int(name[-1]))
    raise TrainingError(f"train.backend {name}: no such backend; there are {', '.join(BACKENDS)}")
