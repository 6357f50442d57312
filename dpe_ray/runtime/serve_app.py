"""Models of the run as Ray Serve apps: one per entry of `models`, each an OpenAI-compatible endpoint on loopback."""

import asyncio
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from dpe_ray.config import ModelConfig
from dpe_ray.errors import BadRequest, ClusterError, ModelUnavailable, PoolError
from dpe_ray.models.engines import create_engine
from dpe_ray.models.openai_api import error_body, models_body, read_body, reply_body
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion, PolicyRef, Prompt, RolloutGroup

HOST = "127.0.0.1"
"""Loopback only: Serve's port knows no token."""
_NAMESPACE, _BOARD = "dpe_ray", "dpe_ray-policies"
_ONGOING = 512
"""Requests in one replica; the engine batches them itself."""
_READY_S = 60.0
_STARTING = ("STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION")
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}

api = FastAPI(openapi_url=None)


class PolicyBoard:
    """Which policy every app serves, for replicas that start after a policy was published."""

    def __init__(self) -> None:
        self._policies: dict[str, PolicyRef | None] = {}

    def put(self, app: str, policy: PolicyRef | None) -> None:
        """Write down; None: the source of the entry is served."""
        self._policies[app] = policy

    def get(self, app: str) -> PolicyRef | None:
        """None before the first publication."""
        return self._policies.get(app)

    def apps(self) -> list[str]:
        """All that were ever served."""
        return list(self._policies)


class ChatShell:
    """Shell around one engine."""

    def __init__(self, name: str, engine: str, source: str, options: dict[str, Any]) -> None:
        self._name = name
        self._engine = create_engine(engine, source, options)
        board = _board()
        while (policy := ray.get(board.get.remote(name))) and policy.version != self._engine.version:
            self._engine.load_policy(policy)

    @api.post("/v1/chat/completions")
    async def chat(self, http: Request) -> Response:
        """OpenAI's chat completions."""
        try:
            request = read_body(await _json(http), self._name)
            version, completions = await self._answer(request)
        except (BadRequest, PoolError) as error:
            return JSONResponse(error_body(str(error), "invalid_request_error"), 400)
        except ModelUnavailable as error:
            return _outage(str(error))
        return JSONResponse(reply_body(completions, self._name, version, request.logprobs))

    @api.get("/v1/models")
    async def models(self) -> dict[str, Any]:
        """Name the one model."""
        return models_body(self._name)

    @api.get("/health")
    async def health(self) -> dict[str, Any]:
        """Answer when the engine is loaded."""
        return {"status": "ok", "model": self._name, "version": self._engine.version}

    async def pid(self) -> int:
        """Process of the replica."""
        return os.getpid()

    async def load_policy(self, policy: PolicyRef) -> int:
        """As `Engine.load_policy`, beside the event loop."""
        return await asyncio.to_thread(self._engine.load_policy, policy)

    async def rollout(self, prompts: Sequence[Prompt], settings: dict[str, Any]) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`, for engines that can. Raises BadRequest for others."""
        rollout = getattr(self._engine, "rollout", None)
        if rollout is None:
            raise BadRequest(f"models.{self._name}: its engine gives no rollouts; use engine: transformers")
        groups: list[RolloutGroup] = await asyncio.to_thread(rollout, prompts, **settings)
        return groups

    async def _answer(self, request: EngineRequest) -> tuple[int, Sequence[Completion]]:
        version = self._engine.version
        completions = await self._engine.chat(request)
        if version != self._engine.version:
            raise ModelUnavailable("the policy changed under the request; ask again")
        return version, completions


def serve_models(models: Mapping[str, ModelConfig], *, port: int = 0, threads: int = 1) -> dict[str, str]:
    """Serve every entry that has an engine; its base URL by name. Returns when all answer (10-60 s).

    `port` 0 picks a free one. Serving again replaces the app and forgets what was published. Raises ClusterError.
    """
    entries = {name: model for name, model in models.items() if model.engine}
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    port = _running_port(port) or port or _free_port()
    board = _board()
    ray.get([board.put.remote(name, None) for name in entries])
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": HOST, "port": port}, logging_config=_LOGGING)
        serve.run_many(
            [
                serve.RunTarget(_app(name, model, threads), name=name, route_prefix=f"/{name}", logging_config=_LOGGING)
                for name, model in entries.items()
            ]
        )
    except (RayError, RayServeException, RuntimeError, ValueError) as error:
        raise ClusterError(f"models {', '.join(entries)}: cannot be served ({_why_not(error)})") from error
    for name in entries:
        _wait_until_ready(f"http://{HOST}:{port}/{name}")
    return {name: f"http://{HOST}:{port}/{name}/v1" for name in entries}


def publish(name: str, policy: PolicyRef) -> None:
    """Make every replica of an app serve `policy`, later ones too. Raises ClusterError when one did not take it."""
    try:
        ray.get(_board().put.remote(name, policy))
        _wait_for_starting_replicas(name)
        versions = serve.get_app_handle(name).broadcast("load_policy", policy).results()
    except (RayError, RayServeException, RuntimeError) as error:
        raise ClusterError(f"models.{name}: policy {policy.version} was not loaded ({last_line(error)})") from error
    if not versions or set(versions) != {policy.version}:
        raise ClusterError(f"models.{name}: replicas serve policies {sorted(versions)} instead of {policy.version}")


def _wait_for_starting_replicas(name: str) -> None:
    """Return when no replica starts: one that read the board before it was written would miss the broadcast."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        deployments = serve.status().applications[name].deployments.values()
        if not any(state in _STARTING and count for d in deployments for state, count in d.replica_states.items()):
            return
        time.sleep(0.2)


def shutdown() -> None:
    """Take down our apps and what was published. Serve itself stays: a cluster may hold others' apps."""
    board = _board()
    for name in ray.get(board.apps.remote()):
        serve.delete(name)
    ray.kill(board)


def _app(name: str, model: ModelConfig, threads: int) -> serve.Application:
    least, most = model.replicas.min, model.replicas.max
    scale: dict[str, Any] = {"num_replicas": least}
    if most > least:
        scale = {"autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 64}}
    options = {"threads": threads, **model.options} if model.engine == "transformers" else model.options
    source = str(Path(model.source).absolute()) if Path(model.source).exists() else model.source
    actor = {"num_cpus": model.num_cpus, "num_gpus": model.num_gpus}
    deployment = ChatApp.options(
        name="ChatApp", ray_actor_options=actor, max_ongoing_requests=_ONGOING, max_constructor_retry_count=1, **scale
    )
    return deployment.bind(name, model.engine, source, dict(options))


def _board() -> Any:
    # detached: apps outlive the driver of a job, and so must what they serve
    remote = ray.remote(num_cpus=0)(PolicyBoard)
    return remote.options(name=_BOARD, namespace=_NAMESPACE, get_if_exists=True, lifetime="detached").remote()


def _why_not(error: Exception) -> str:
    """What the replicas said, where one did not start; else what Serve said."""
    for name, app in serve.status().applications.items():
        for deployment in app.deployments.values():
            if app.status == "DEPLOY_FAILED" and deployment.message:
                return f"models.{name}: {deployment.message.strip().splitlines()[-1][:400]}"
    return last_line(error)


async def _json(http: Request) -> object:
    try:
        return await http.json()
    except ValueError as error:
        raise BadRequest(f"body: is no JSON ({error})") from error


def _outage(message: str) -> Response:
    if message.startswith("cut:"):
        return StreamingResponse(_cut(), media_type="application/json")
    status = 408 if message.startswith("timeout:") else 503
    return JSONResponse(error_body(message, "server_error"), status)


async def _cut() -> AsyncIterator[bytes]:
    yield b'{"id": "chatcmpl-'
    raise ConnectionAbortedError("the engine asked for a broken connection")


def _wait_until_ready(url: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            with direct.open(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"{url} does not answer ({error}); see the Serve logs of this session") from error
        time.sleep(0.1)


def _running_port(wanted: int) -> int:
    """Port of a Serve that runs already, or 0."""
    client = _get_global_client(raise_if_no_controller_running=False)
    running = int(client.http_config.port) if client else 0
    if running and wanted not in (0, running):
        raise ClusterError(f"runtime.http_port: Serve of this cluster listens on {running}, not on {wanted}; use 0")
    return running


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def last_line(error: BaseException) -> str:
    """What a remote traceback ends with."""
    lines = str(error).strip().splitlines()
    return lines[-1][:300] if lines else type(error).__name__


# Serve pickles the class with what it finds here: everything must be defined before
ChatApp: Any = serve.deployment(serve.ingress(api)(ChatShell))
