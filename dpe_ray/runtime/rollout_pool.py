"""Rollouts from the served student, for the workers that train it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayError
from ray.serve.exceptions import RayServeException
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from dpe_ray.errors import ClusterError, DpeError, TrainingError
from dpe_ray.models.sampling import rollout_seeds
from dpe_ray.runtime.publication import publish
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

logger = logging.getLogger(__name__)
PROMPTS_PER_CALL = 16
"""Few enough that replicas share the work, enough to fill a batch."""
_LOST = (RayActorError, NodeDiedError, ObjectLostError)
"""How a replica ends under a call, or a node with what it had answered."""
_ASKED = Retrying(
    stop=stop_after_attempt(4), wait=wait_random_exponential(1, 8), retry=retry_if_exception_type(_LOST), reraise=True
)
_Part = tuple[Sequence[Prompt], dict[str, Any]]
"""Prompts of one call, and how to sample."""


@dataclass(frozen=True)
class ServeRolloutPool:
    """A RolloutPool through Serve. Works in any process of the cluster, also inside Ray Train workers."""

    app: str
    """As `serve_app.Served.app`."""

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
        """As `RolloutPool.rollout`. Raises TrainingError when replicas disagree about the policy, ClusterError."""
        settings = {"group_size": group_size, "temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        seeds = rollout_seeds(prompts, seed)
        parts = [
            (prompts[part], settings | {"seed": seeds[part]})
            for part in (slice(at, at + PROMPTS_PER_CALL) for at in range(0, len(prompts), PROMPTS_PER_CALL))
        ]
        try:
            groups = [group for answer in self._answers(parts) for group in answer]
        except (RayError, RayServeException, RuntimeError) as error:
            own = getattr(error, "cause", None)
            if isinstance(own, DpeError):
                raise own from error
            raise ClusterError(f"app {self.app}: no rollouts ({last_line(error)}); see Ray's logs") from error
        if len(versions := {group.policy_version for group in groups}) > 1:
            raise TrainingError(f"app {self.app}: rollouts of one step come from policies {sorted(versions)}")
        return groups

    def publish(self, policy: PolicyRef) -> None:
        """As `RolloutPool.publish`. Raises ClusterError, which a restart of the workers may mend."""
        publish(self.app, policy)

    def _answers(self, parts: Sequence[_Part]) -> list[list[RolloutGroup]]:
        """Ask for all parts at once, and again for those whose replica ended: another draws the same from its seeds."""
        handle = serve.get_app_handle(self.app)
        answers: dict[int, list[RolloutGroup]] = {}
        for attempt in _ASKED.copy():
            with attempt:
                calls = {i: handle.rollout.remote(*part) for i, part in enumerate(parts) if i not in answers}
                lost: list[RayError] = []
                for i, call in calls.items():
                    try:
                        answers[i] = call.result()
                    except _LOST as error:
                        lost.append(error)
                if lost:
                    logger.warning("app %s: %d rollout calls were lost (%s)", self.app, len(lost), last_line(lost[0]))
                    raise lost[0]
        return [answers[i] for i in range(len(parts))]
