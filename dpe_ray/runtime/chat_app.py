"""One replica of a served model: an engine behind OpenAI's API, over HTTP on loopback and over Ray itself."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from ray import serve

from dpe_ray.errors import BadRequest, ModelCutOff, ModelTimeout, ModelUnavailable, PoolError
from dpe_ray.models.engines import create_engine
from dpe_ray.models.openai_api import error_body, models_body, read_body, reply_body
from dpe_ray.ports import EngineRequest
from dpe_ray.runtime.policy_board import published
from dpe_ray.types import Completion, PolicyRef, Prompt, RolloutGroup

api = FastAPI(openapi_url=None)


class ChatShell:
    """Shell around one engine."""

    def __init__(self, name: str, app: str, engine: str, source: str, options: dict[str, Any]) -> None:
        """`name` is what clients call the model, `app` what Serve calls it."""
        self._name = name
        self._engine = create_engine(engine, source, options)
        while (policy := published(app)) and policy.version != self._engine.version:
            self._engine.load_policy(policy)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer a POST to `/v1/PATH`: HTTP status and JSON; no bytes at all play a connection that breaks off."""
        if path != "chat/completions":
            return _error(404, f"{path}: no such endpoint")
        try:
            request = read_body(_decoded(body), self._name)
            version, completions = await self._answer(request)
        except (BadRequest, PoolError) as error:
            return _error(400, str(error))
        except ModelCutOff:
            return 200, b""
        except ModelUnavailable as error:
            return _error(408 if isinstance(error, ModelTimeout) else 503, str(error))
        return 200, _encoded(reply_body(completions, self._name, version, request.logprobs))

    @api.post("/v1/{path:path}")
    async def http_post(self, path: str, http: Request) -> Response:
        """As `post`, over HTTP."""
        status, content = await self.post(path, await http.body())
        if not content:
            return StreamingResponse(_cut_off(), media_type="application/json")
        return Response(content, status, media_type="application/json")

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


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise BadRequest(f"body: is no JSON ({error})") from error


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _error(status: int, message: str) -> tuple[int, bytes]:
    kind = "invalid_request_error" if status in (400, 404) else "server_error"
    return status, _encoded(error_body(message, kind))


async def _cut_off() -> AsyncIterator[bytes]:
    yield b'{"id": "chatcmpl-'
    raise ConnectionAbortedError("the engine asked for a broken connection")


# Serve pickles the class with what it finds here: everything must be defined before
ChatApp: Any = serve.deployment(serve.ingress(api)(ChatShell))
