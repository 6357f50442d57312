"""One replica of a served model: an engine behind OpenAI's API, over HTTP and over Ray itself."""

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
from dpe_ray.models.image_urls import fetch_images
from dpe_ray.models.openai_api import (
    MAX_BODY_BYTES,
    ChatBody,
    EmbeddingBody,
    engine_request,
    read_chat,
    read_embedding,
)
from dpe_ray.models.openai_reply import chat_reply, chat_stream, embedding_reply, error_body, models_body
from dpe_ray.runtime.listening import may_enter
from dpe_ray.runtime.policy_board import published
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

BODY_WITHIN_S = 60.0
"""A client that left without a word would otherwise hold its place for ever."""
REFUSED = "invalid_request_error"
JSON, EVENTS = "application/json", "text/event-stream"
api = FastAPI(openapi_url=None)


class ChatShell:
    """Shell around one engine."""

    def __init__(
        self,
        name: str,
        app: str,
        engine: tuple[str, str, dict[str, Any]],
        door: str = "",
        image_urls: tuple[str, ...] = (),
    ) -> None:
        """`name` is what clients call the model, `app` what Serve calls it; `engine` as `create_engine`.

        `door` and `image_urls` as in `listening.Listen`.
        """
        self._name, self._door, self._image_urls = name, door, image_urls
        self._engine = create_engine(*engine)
        while (policy := published(app)) and policy.version != self._engine.version:
            self._engine.load_policy(policy)

    async def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer a POST to `/v1/PATH`: HTTP status and content; no bytes at all play a connection that breaks off."""
        if len(body) > MAX_BODY_BYTES:
            return 413, _error(f"body: more than {MAX_BODY_BYTES} bytes; send smaller or fewer images", REFUSED)
        try:
            if path == "chat/completions":
                return 200, await self._chat(read_chat(body, self._name))
            if path == "embeddings":
                return 200, await self._embed(read_embedding(body, self._name))
        except (BadRequest, PoolError) as error:
            return 400, _error(str(error), REFUSED)
        except ModelCutOff:
            return 200, b""
        except ModelUnavailable as error:
            return 408 if isinstance(error, ModelTimeout) else 503, _error(str(error), "server_error")
        return 404, _error(f"{path}: no such endpoint", REFUSED)

    @api.post("/v1/{path:path}")
    async def post(self, path: str, http: Request) -> Response:
        """As `answer`, over HTTP."""
        if refused := self._refusal(http):
            return refused
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await _body(http)
        except TimeoutError:
            return Response(_error("body: it took too long to come", REFUSED), 408, media_type=JSON)
        status, content = await self.answer(path, body)
        if not content:
            return StreamingResponse(_cut_off(), media_type=JSON)
        return Response(content, status, media_type=EVENTS if content.startswith(b"data: ") else JSON)

    @api.get("/v1/models")
    async def models(self, http: Request) -> Response:
        """Name the one model."""
        return self._refusal(http) or Response(_encoded(models_body(self._name)), media_type=JSON)

    @api.get("/health")
    async def health(self, http: Request) -> Response:
        """Answer when the engine is loaded."""
        state = {"status": "ok", "model": self._name, "version": self._engine.version}
        return self._refusal(http) or Response(_encoded(state), media_type=JSON)

    def check_health(self) -> None:
        """Serve replaces a replica whose engine raises here."""
        if check := getattr(self._engine, "check_health", None):
            check()

    async def pid(self) -> int:
        """Process of the replica."""
        return os.getpid()

    async def load_policy(self, policy: PolicyRef) -> tuple[str, int]:
        """As `Engine.load_policy`, beside the event loop; tells Serve's id of the replica, too."""
        version = await asyncio.to_thread(self._engine.load_policy, policy)
        return serve.get_replica_context().replica_id.unique_id, version

    async def doze(self) -> None:
        """Give the GPU's memory back until the next request, for engines that can."""
        if doze := getattr(self._engine, "doze", None):
            await asyncio.to_thread(doze)

    async def rollout(self, prompts: Sequence[Prompt], settings: dict[str, Any]) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`, for engines that can; `seed` among the settings as `rollout_seeds`.

        Raises BadRequest for engines that cannot.
        """
        rollout = getattr(self._engine, "rollout", None)
        if rollout is None:
            raise BadRequest(f"models.{self._name}: its engine gives no rollouts; use engine: transformers or vllm")
        groups: list[RolloutGroup] = await asyncio.to_thread(rollout, prompts, **settings)
        return groups

    async def _chat(self, body: ChatBody) -> bytes:
        request = engine_request(body, await fetch_images(body.image_urls(), self._image_urls))
        version = self._engine.version
        completions = await self._engine.chat(request)
        if version != self._engine.version:
            raise ModelUnavailable("the policy changed under the request; ask again")
        if body.stream:
            return chat_stream(completions, body, version)
        return _encoded(chat_reply(completions, body, version))

    async def _embed(self, body: EmbeddingBody) -> bytes:
        embed = getattr(self._engine, "embed", None)
        if embed is None:
            raise BadRequest(f"models.{self._name}: its engine gives no embeddings")
        return _encoded(embedding_reply(await embed(body.texts), body))

    def _refusal(self, http: Request) -> Response | None:
        if may_enter(self._door, http.headers.get("authorization", "")):
            return None
        return Response(_error("wrong or missing API key", REFUSED, "invalid_api_key"), 401, media_type=JSON)


async def _body(http: Request) -> bytes:
    """All of it, or as much as shows that it is too large."""
    body = bytearray()
    async for part in http.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            break
    return bytes(body)


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode(errors="replace")  # models and errors may write half a character


def _error(message: str, kind: str, code: str | None = None) -> bytes:
    return _encoded(error_body(message, kind, code))


async def _cut_off() -> AsyncIterator[bytes]:
    yield b'{"id": "chatcmpl-'
    raise ConnectionAbortedError("the engine asked for a broken connection")


# Serve pickles the class with what it finds here: everything must be defined before
ChatApp: Any = serve.deployment(serve.ingress(api)(ChatShell))
