"""Rollouts of the next step while this one is trained on.

They come from the policy before the update that runs beside them, so their log-probabilities are one update old. The
ratio of the trainer's policy at the start of a step to the one that sampled (`rollout_cap`) weighs that as it weighs
the difference between two engines; the PPO ratio still starts at 1 (decoupled PPO, arXiv 2505.24298).
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch

from dpe_ray.types import RolloutGroup

RollOut = Callable[[int, int], list[RolloutGroup]]
"""(step, policy version) -> this rank's groups of that step."""


class Rollouts:
    """Gives the groups of each step, rolled out when they are asked for or, with `ahead` 1, while a step is trained on.

    They run on the GPU that is current where this is built, also in a thread of their own. Policies may be published
    only after `settle`: rollouts of a step come from one policy. As a context: its end waits for what is under way.
    """

    def __init__(self, roll_out: RollOut, steps: int, ahead: int) -> None:
        self._roll_out = roll_out
        self._steps = steps
        self._ahead = ahead
        self._thread = ThreadPoolExecutor(1, "rollouts", *_on_this_device())
        self._begun: tuple[int, Future[list[RolloutGroup]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def begin(self, step: int, version: int) -> None:
        """Start the rollouts of a step under the published policy; nothing without `ahead` or behind the last step."""
        if self._ahead and step < self._steps:
            self._begun = step, self._thread.submit(self._roll_out, step, version)

    def settle(self) -> None:
        """Wait until nothing is under way; what broke is raised by `take`."""
        if self._begun:
            self._begun[1].exception()

    def take(self, step: int, version: int) -> list[RolloutGroup]:
        """Give the groups of a step: those begun, else new ones under `version`. Raises what rolling out raised."""
        begun, self._begun = self._begun, None
        if begun and begun[0] == step:
            return begun[1].result()
        return self._roll_out(step, version)


def _on_this_device() -> tuple[Callable[[int], None], tuple[int]] | tuple[()]:
    """How a new thread begins, as an executor takes it: torch's current GPU belongs to a thread, and starts at 0."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return ()
    return torch.cuda.set_device, (torch.cuda.current_device(),)
