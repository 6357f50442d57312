"""Which policy an app serves, kept outside its replicas: one that starts after a publication reads it there."""

from typing import Any

import ray

from dpe_ray.runtime.owner import owner
from dpe_ray.types import PolicyRef

_NAMESPACE = "dpe_ray"


class PolicyBoard:
    """One published policy."""

    def __init__(self) -> None:
        self._policy: PolicyRef | None = None

    def put(self, policy: PolicyRef | None) -> None:
        """Write down; None: the source that the app was started with."""
        self._policy = policy

    def get(self) -> PolicyRef | None:
        """None before the first publication."""
        return self._policy


def write_down(app: str, policy: PolicyRef | None) -> None:
    """Publish to replicas that are still to come; None: the app's own source. Raises RayError."""
    # detached: apps outlive the driver of a job, and so must what they serve
    options = {"name": _name(app), "namespace": _NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
    ray.get(owner(PolicyBoard, **options).remote().put.remote(policy))


def published(app: str) -> PolicyRef | None:
    """Read what was published last, or None. Raises RayError."""
    board = _find(app)
    return ray.get(board.get.remote()) if board else None


def forget(app: str) -> None:
    """Serve the app's own source again, in replicas that are still to come."""
    if board := _find(app):
        ray.get(board.put.remote(None))


def remove(app: str) -> None:
    """End the board, with its app."""
    if board := _find(app):
        ray.kill(board)


def _name(app: str) -> str:
    return f"policy-of-{app}"


def _find(app: str) -> Any | None:
    try:
        return ray.get_actor(_name(app), _NAMESPACE)
    except ValueError:  # how Ray says that there is none
        return None
