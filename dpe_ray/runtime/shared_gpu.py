"""A trainer and an engine on one GPU: neither keeps what it does not need while the other works."""

from collections.abc import Callable, Sequence

import torch
from ray import serve
from ray.exceptions import RayActorError

from dpe_ray.config import ModelConfig, TrainConfig
from dpe_ray.errors import ClusterError
from dpe_ray.ports import RolloutPool
from dpe_ray.runtime.publication import BROKEN
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup


def shared(train: TrainConfig, student: ModelConfig) -> bool:
    """Whether training workers are to make room for the student's engine, and it for them."""
    return train.use_gpu and (train.num_gpus < 1 or bool(student.options.get("sleep")))


class SharedGpuPool:
    """The RolloutPool of a training worker whose GPU an engine uses too. Open it before the trainer loads.

    torch keeps the blocks that an update has freed, for the next one; they go back before the engine is asked.
    """

    def __init__(self, open_pool: Callable[[], RolloutPool], app: str) -> None:
        """`app` serves the student, as in `serve_app.Served`. Raises what `open_pool` raises, and ClusterError."""
        self._pool = open_pool()
        doze(app)

    def rollout(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`."""
        torch.cuda.empty_cache()
        return self._pool.rollout(
            prompts, group_size=group_size, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed
        )

    def publish(self, policy: PolicyRef) -> None:
        """As `RolloutPool.publish`."""
        torch.cuda.empty_cache()
        self._pool.publish(policy)


def doze(app: str) -> None:
    """Have the engines of an app that can give their GPU's memory back until they are asked again. ClusterError."""
    try:
        answers = serve.get_app_handle(app).broadcast("doze").results(return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, RayActorError):  # one that ended holds nothing
                raise answer
    except BROKEN as error:
        raise ClusterError(f"app {app}: its engines keep their GPUs ({last_line(error)}); see Ray's logs") from error
