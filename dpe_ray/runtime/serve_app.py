"""Models of the run as Ray Serve apps: one per entry of `models`, started, given policies and taken down here."""

import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from dpe_ray.config import ModelConfig
from dpe_ray.errors import ClusterError
from dpe_ray.runtime import policy_board
from dpe_ray.runtime.chat_app import ChatApp
from dpe_ray.runtime.listening import LOOPBACK, Listen, closed_door
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.types import PolicyRef

logger = logging.getLogger(__name__)
LOCAL = Listen()
"""Loopback: Serve's port knows no token."""
_ONGOING = 512
"""Requests in one replica; the engine batches them itself."""
_READY_S = 60.0
_STARTING = ("STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}
_ENDING = {"graceful_shutdown_timeout_s": 3.0, "graceful_shutdown_wait_loop_s": 0.5}
"""Clients ask again: a replica need not finish what it was asked before it ends."""


@dataclass(frozen=True)
class Served:
    """Where one entry of `models` answers."""

    app: str
    """Serve's name of it, for handles; works in every process of the cluster."""
    url: str
    """`http://HOST:PORT/APP/v1`, on the head alone."""


@contextmanager
def serving(
    models: Mapping[str, ModelConfig], *, prefix: str, ours: bool, listen: Listen = LOCAL, threads: int = 1
) -> Iterator[dict[str, Served]]:
    """Serve as `serve_models`, and leave nothing of it behind on a cluster that is not ours."""
    found = _client() is not None
    try:
        yield serve_models(models, prefix=prefix, listen=listen, threads=threads)
    finally:
        if not ours and _client() is not None:
            _clean([app_name(prefix, name) for name, model in models.items() if model.engine], serve_too=not found)


def serve_models(
    models: Mapping[str, ModelConfig], *, prefix: str = "", listen: Listen = LOCAL, threads: int = 1
) -> dict[str, Served]:
    """Serve every entry that has an engine. Returns when all have loaded (10-60 s).

    Serving again replaces the app and forgets what was published. Where somebody else's Serve listens beyond loopback,
    HTTP answers nobody without the key of `listen`. Raises ClusterError.
    """
    apps = {name: app_name(prefix, name) for name, model in models.items() if model.engine}
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    port = _running_port(listen) or listen.port or _free_port(listen.host)
    door = listen.door or _door_of_others()
    try:
        for app in apps.values():
            policy_board.forget(app)
        http = {"host": listen.host, "port": port}
        serve.start(proxy_location="HeadOnly", http_options=http, logging_config=_LOGGING)
        entry = (door, listen.image_urls)
        serve.run_many(
            [_target(models[name], (name, app, _engine(models[name], threads), *entry)) for name, app in apps.items()]
        )
    except (RayError, RayServeException, RuntimeError, ValueError) as error:
        raise ClusterError(f"models {', '.join(apps)}: cannot be served ({_why_not(error, apps.values())})") from error
    return {name: Served(app, listen.url(port, app)) for name, app in apps.items()}


def app_name(prefix: str, name: str) -> str:
    """Name of an app and of its route: the entry's own, behind what tells runs of one cluster apart."""
    return f"{prefix}-{name}" if prefix else name


def wait_until_ready(url: str, key: str = "") -> None:
    """Return when `Served.url` answers over HTTP, on this node. Raises ClusterError after a minute."""
    ask = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            with direct.open(ask, timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"{url} does not answer ({error}); see the Serve logs of this session") from error
        time.sleep(0.1)


def publish(app: str, policy: PolicyRef) -> None:
    """Make every replica of an app serve `policy`, later ones too. Raises ClusterError when one did not take it."""
    try:
        policy_board.write_down(app, policy)
        _wait_for_starting_replicas(app)
        versions = serve.get_app_handle(app).broadcast("load_policy", policy).results()
    except (RayError, RayServeException, RuntimeError) as error:
        raise ClusterError(f"app {app}: policy {policy.version} was not loaded ({last_line(error)})") from error
    if not versions or set(versions) != {policy.version}:
        raise ClusterError(f"app {app}: replicas serve policies {sorted(versions)} instead of {policy.version}")


def take_down(apps: Iterable[str]) -> None:
    """End apps with what was published for them. Serve itself stays: a cluster may hold others' apps."""
    for app in apps:
        serve.delete(app)
        policy_board.remove(app)


def _clean(apps: Sequence[str], serve_too: bool) -> None:
    try:
        take_down(apps)
        if serve_too and not serve.status().applications:
            serve.shutdown()
    except (RayError, RayServeException, RuntimeError, TimeoutError) as error:  # must not hide what ended the run
        logger.warning("apps %s may still be there: %s", ", ".join(apps), last_line(error))


def _wait_for_starting_replicas(app: str) -> None:
    """Return when no replica starts: one that read the board before it was written would miss the broadcast."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        deployments = serve.status().applications[app].deployments.values()
        if not any(state in _STARTING and count for d in deployments for state, count in d.replica_states.items()):
            return
        time.sleep(0.2)


def _target(model: ModelConfig, shell: tuple[Any, ...]) -> Any:
    """An app of `ChatShell(*shell)`."""
    least, most = model.replicas.min, model.replicas.max
    scale: dict[str, Any] = {"num_replicas": least}
    if most > least:
        scale = {"autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 64}}
    deployment = ChatApp.options(
        name="ChatApp",
        ray_actor_options={"num_cpus": model.num_cpus, "num_gpus": model.num_gpus},
        max_ongoing_requests=_ONGOING,
        max_constructor_retry_count=1,
        **_ENDING,
        **scale,
    )
    app = shell[1]
    return serve.RunTarget(deployment.bind(*shell), name=app, route_prefix=f"/{app}", logging_config=_LOGGING)


def _engine(model: ModelConfig, threads: int) -> tuple[str, str, dict[str, Any]]:
    """Arguments of `create_engine`."""
    options = {"threads": threads, **model.options} if model.engine == "transformers" else dict(model.options)
    source = str(Path(model.source).absolute()) if Path(model.source).exists() else model.source
    return model.engine, source, options


def _why_not(error: Exception, apps: Iterable[str]) -> str:
    """What the replicas said, where one did not start; else what Serve said."""
    status = serve.status().applications
    for app in apps:
        if app in status and status[app].status == "DEPLOY_FAILED":
            for deployment in status[app].deployments.values():
                if deployment.message:
                    return f"{app}: {deployment.message.strip().splitlines()[-1][:400]}"
    return last_line(error)


def _client() -> Any | None:
    return _get_global_client(raise_if_no_controller_running=False)


def _running_port(listen: Listen) -> int:
    """Port of a Serve that runs already, or 0. Raises ClusterError when it listens elsewhere than is wanted."""
    client = _client()
    if client is None:
        return 0
    host, port = str(client.http_config.host), int(client.http_config.port)
    if listen.port not in (0, port):
        raise ClusterError(f"runtime.http_port: Serve of this cluster listens on {port}, not on {listen.port}; use 0")
    if listen.host not in LOOPBACK and listen.host != host:
        raise ClusterError(f"serve --host: Serve of this cluster listens on {host}, not on {listen.host}")
    return port


def _door_of_others() -> str:
    client = _client()
    return closed_door() if client and str(client.http_config.host) not in LOOPBACK else ""


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
