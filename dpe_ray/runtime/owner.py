"""Actors that own what every worker asks for: the quotas, the calls, the rows, the published policies."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def owner(plain: type, **options: Any) -> Any:
    """Make an actor class of a plain one, to start with `.remote(...)` on the node of this process; it takes no CPU.

    Left alone, Ray puts an actor without CPUs on any node, and an autoscaler that takes the node back ends the actor.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(plain).options(scheduling_strategy=here, **options)
