"""A policy for every replica of a served model: those that run, those that start meanwhile, and later ones."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from dpe_ray.errors import ClusterError
from dpe_ray.runtime import policy_board
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.types import PolicyRef

logger = logging.getLogger(__name__)
BROKEN = (RayError, RayServeException, RuntimeError, ValueError, TimeoutError)
"""What Serve's functions raise when something does not work; ClusterError is one of them."""
_STARTED_S = 60.0
_STARTING = ("STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")
_ASKED = Retrying(stop=stop_after_attempt(8), wait=wait_exponential(0.25, 8), reraise=True)
"""25 s in all: Serve looks every 10 s whether a replica that it counts is still there."""


class _Missed(ClusterError):
    """A replica runs that was not asked."""


def publish(app: str, policy: PolicyRef) -> None:
    """Make every replica of an app serve `policy`, later ones too. Raises ClusterError when one did not take it.

    Replicas that start after that serve what was published before.
    """
    try:
        _replicas(app)  # an app that is not there gets no board
        with _on_the_board(app, policy):
            _tell_all(app, policy)
    except BROKEN as error:
        raise ClusterError(f"app {app}: policy {policy.version} was not loaded ({last_line(error)})") from error


@contextmanager
def _on_the_board(app: str, policy: PolicyRef) -> Iterator[None]:
    """Write down for replicas that start from now on; put back what was there when the block raises."""
    former = policy_board.published(app)
    policy_board.write_down(app, policy)
    try:
        yield
    except BROKEN:
        try:
            policy_board.write_down(app, former)
        except BROKEN as error:  # must not hide why the policy was not taken
            logger.warning("app %s: replicas that start get a policy that was refused: %s", app, last_line(error))
        raise


def _tell_all(app: str, policy: PolicyRef) -> None:
    """Ask until all replicas that run have answered: Serve's broadcast leaves some out, and goes by an old list."""
    told: set[str] = set()
    for attempt in _ASKED.copy(retry=retry_if_exception_type(_Missed)):
        with attempt:
            _wait_for_starting_replicas(app)
            told |= _tell(app, policy)
            missed = {replica["replica_id"] for replica in _replicas(app) if replica["state"] == "RUNNING"} - told
            if missed or not told:
                raise _Missed(f"{len(missed)} of its replicas did not answer" if told else "none of its replicas runs")


def _tell(app: str, policy: PolicyRef) -> set[str]:
    """Ask those that Serve's handle knows; ids of those that took it. Raises what one said that refused it."""
    try:
        answers = serve.get_app_handle(app).broadcast("load_policy", policy).results(return_exceptions=True)
    except DeploymentUnavailableError:  # Serve knows none at the moment
        return set()
    answers = [answer for answer in answers if not isinstance(answer, RayActorError)]  # ended before it could answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    if strange := sorted({version for _, version in answers} - {policy.version}):
        raise ClusterError(f"replicas serve policies {strange} instead of {policy.version}")
    return {replica for replica, _ in answers}


def _wait_for_starting_replicas(app: str) -> None:
    """Return when no replica is about to run that read the board before it was written.

    One that has no place in the cluster yet has still to read it, however long it waits.
    """
    deadline = time.monotonic() + _STARTED_S
    while starting := [replica for replica in _replicas(app) if replica["state"] in _STARTING]:
        if all(_waits(replica) for replica in starting):
            logger.info("app %s: %d replicas wait for room", app, len(starting))
            return
        if time.monotonic() > deadline:
            logger.warning("app %s: %d replicas still start after %.0f s", app, len(starting), _STARTED_S)
            return
        time.sleep(0.2)


def _waits(replica: dict[str, Any]) -> bool:
    """Whether it has no process yet; Serve constructs the app in it after it told us its node (Ray 2.60)."""
    return replica["state"] == "STARTING" and not replica.get("node_id")


def _replicas(app: str) -> list[dict[str, Any]]:
    """As `ReplicaDetails` of Serve's schema. Raises ClusterError when there is no such app."""
    applications = _get_global_client().get_serve_details()["applications"]
    if app not in applications:
        raise ClusterError("it is not served")
    return [replica for deployment in applications[app]["deployments"].values() for replica in deployment["replicas"]]
