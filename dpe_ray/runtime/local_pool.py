"""Rollouts in a training worker, from an engine on the device that Ray Train gave to this rank."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ray.train.torch import get_device

from dpe_ray.models.local_rollouts import LocalRolloutPool
from dpe_ray.runtime.engine_device import EngineArguments, beside_trainer

VISIBLE = "CUDA_VISIBLE_DEVICES"


def open_local_pool(engine: EngineArguments, board: str) -> LocalRolloutPool:
    """Load an engine of its own for this rank, as `LocalRolloutPool`. Call it in a worker of Ray Train."""
    device = str(get_device())
    with shown_only(device):
        return LocalRolloutPool(beside_trainer(engine, device), board)


@contextmanager
def shown_only(device: str) -> Iterator[None]:
    """Show processes that are started meanwhile this GPU alone; nothing changes for `cpu`.

    Ray Train shows every worker the GPUs of all workers on its node, and engines with processes of their own take the
    first that they see. This process has read the variable when it first used a GPU.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        yield
        return
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = before.split(",")[int(index or 0)] if before else index or "0"
    try:
        yield
    finally:
        os.environ.pop(VISIBLE)
        if before is not None:
            os.environ[VISIBLE] = before
