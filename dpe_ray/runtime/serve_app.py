"""Models of the run as Ray Serve apps: one per entry of `models`, started and taken down here."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client

from dpe_ray.config import ModelConfig
from dpe_ray.errors import ClusterError, ConfigError
from dpe_ray.runtime import policy_board
from dpe_ray.runtime.chat_app import ChatApp
from dpe_ray.runtime.engine_device import EngineArguments, in_replica
from dpe_ray.runtime.head_node import on_head
from dpe_ray.runtime.listening import LOOPBACK, Listen, free_port
from dpe_ray.runtime.publication import BROKEN
from dpe_ray.runtime.serve_route import last_line

logger = logging.getLogger(__name__)
LOCAL = Listen()
"""Loopback: Serve's port knows no token."""
_ONGOING = 512
"""Requests in one replica; the engine batches them itself."""
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}
_ENDING = {"graceful_shutdown_timeout_s": 3.0, "graceful_shutdown_wait_loop_s": 0.5}
"""Clients ask again: a replica need not finish what it was asked before it ends."""
_THREADED = ("transformers", "vllm")
"""Engines whose threads are counted with those of the run."""


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
        if not ours:
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
    at = _running(listen) or replace(listen, port=on_head(free_port, listen.host, listen.port))
    entry = (at.door, at.image_urls)
    try:
        for app in apps.values():
            policy_board.forget(app)
        http = {"host": at.host, "port": at.port}
        serve.start(proxy_location="HeadOnly", http_options=http, logging_config=_LOGGING)
        serve.run_many(
            [
                _target(models[name], (name, app, _replica_engine(models[name], threads), *entry))
                for name, app in apps.items()
            ]
        )
    except BROKEN as error:
        raise ClusterError(f"models {', '.join(apps)}: cannot be served ({_why_not(error, apps.values())})") from error
    return {name: Served(app, at.url(app)) for name, app in apps.items()}


def require_key(listen: Listen) -> None:
    """Raise ConfigError where a Serve runs that others reach, and `listen` has no key for it; ClusterError."""
    at = _running(listen)
    if at and at.open_to_others:
        raise ConfigError(
            f"serve: Serve of this cluster listens on {at.host}, so others can reach it; "
            "name a variable with --api-key-env"
        )


def app_name(prefix: str, name: str) -> str:
    """Name of an app and of its route: the entry's own, behind what tells runs of one cluster apart."""
    return f"{prefix}-{name}" if prefix else name


def take_down(apps: Iterable[str]) -> None:
    """End apps with what was published for them. Serve itself stays: a cluster may hold others' apps."""
    for app in apps:
        serve.delete(app)
        policy_board.remove(app)


def _clean(apps: Sequence[str], serve_too: bool) -> None:
    try:
        if _client() is None:
            return
        take_down(apps)
        if serve_too and not serve.status().applications:
            serve.shutdown()
    except BROKEN as error:  # must not hide what ended the run
        logger.warning("apps %s may still be there: %s", ", ".join(apps), last_line(error))


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


def _replica_engine(model: ModelConfig, threads: int) -> EngineArguments:
    return in_replica(engine_arguments(model, threads), model.num_gpus)


def engine_arguments(model: ModelConfig, threads: int) -> EngineArguments:
    """Arguments of `create_engine`. An engine that knows no revisions refuses one: it would serve another."""
    options = {"threads": threads, **model.options} if model.engine in _THREADED else dict(model.options)
    if model.revision:
        options["revision"] = model.revision
    return model.engine, model.source, options


def _why_not(error: Exception, apps: Iterable[str]) -> str:
    """What the replicas said, where one did not start; else what Serve said."""
    try:
        status = serve.status().applications
    except BROKEN:  # Serve itself is what broke, and `error` says how
        return last_line(error)
    for app in apps:
        if app in status and status[app].status == "DEPLOY_FAILED":
            for deployment in status[app].deployments.values():
                if deployment.message:
                    return f"{app}: {deployment.message.strip().splitlines()[-1][:400]}"
    return last_line(error)


def _client() -> Any | None:
    try:
        return _get_global_client(raise_if_no_controller_running=False)
    except BROKEN as error:
        raise ClusterError(f"Serve of this cluster cannot be asked ({last_line(error)}); see `ray status`") from error


def _running(listen: Listen) -> Listen | None:
    """`listen` at the address of a Serve that runs already. Raises ClusterError when another one is wanted."""
    client = _client()
    if client is None:
        return None
    host, port = str(client.http_config.host), int(client.http_config.port)
    if listen.port not in (0, port):
        raise ClusterError(f"runtime.http_port: Serve of this cluster listens on {port}, not on {listen.port}; use 0")
    if listen.host not in LOOPBACK and listen.host != host:
        raise ClusterError(f"serve --host: Serve of this cluster listens on {host}, not on {listen.host}")
    return replace(listen, host=host, port=port)
