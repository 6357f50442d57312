"""The head node: Serve's HTTP side is there alone, on whatever node a driver runs."""

from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from dpe_ray.errors import ClusterError, DpeError
from dpe_ray.runtime.serve_route import last_line

_MARK = "node:__internal_head__"
"""A resource that Ray gives to the head, and to no other node."""
T = TypeVar("T")


def on_head(call: Callable[..., T], *arguments: Any) -> T:
    """Call a module-level function there; a process that is there calls it itself. Raises ClusterError, and its own."""
    if not head_elsewhere():
        return call(*arguments)
    task = ray.remote(num_cpus=0, resources={_MARK: 0.001}, max_retries=0)(call)
    try:
        result: T = ray.get(task.remote(*arguments))
    except RayError as error:
        own = getattr(error, "cause", None)
        if isinstance(own, DpeError):
            raise own from error
        raise ClusterError(f"{call.__name__} on the head node: {last_line(error)}; see Ray's logs there") from error
    return result


def head_elsewhere() -> str:
    """Address of the head, or nothing when this process is there. Raises ClusterError when no head is alive."""
    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        if node["Alive"] and _MARK in node["Resources"]:
            return "" if node["NodeID"] == here else str(node["NodeManagerAddress"])
    raise ClusterError("the cluster has no head node that is alive; see `ray status`")
