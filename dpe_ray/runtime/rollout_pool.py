"""Rollouts from the served student, for the workers that train it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from dpe_ray.errors import ClusterError, DpeError, TrainingError
from dpe_ray.models.sampling import rollout_seeds
from dpe_ray.runtime.publication import publish
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

PROMPTS_PER_CALL = 16
"""Few enough that replicas share the work, enough to fill a batch."""


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
        settings = {
            "group_size": group_size,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
        }
        seeds = rollout_seeds(prompts, seed)
        try:
            handle = serve.get_app_handle(self.app)
            calls = [
                handle.rollout.remote(prompts[part], settings | {"seed": seeds[part]})
                for part in (slice(at, at + PROMPTS_PER_CALL) for at in range(0, len(prompts), PROMPTS_PER_CALL))
            ]
            groups: list[RolloutGroup] = [group for call in calls for group in call.result()]
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
