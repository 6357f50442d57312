"""The client of any OpenAI-compatible endpoint: bounded, retrying, journaled. Speaks through the official package."""

import asyncio
import os
import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from dpe_ray.errors import BadRequest, ConfigError, ModelUnavailable
from dpe_ray.models.call_budget import BoundedAsker
from dpe_ray.models.images import data_uri, read_bytes
from dpe_ray.models.journal import Call, Journal, JournaledChat
from dpe_ray.ports import CallBudget, ChatModel, ChatReply, ChatRequest, Message

_LONGEST_WAIT = 120.0
"""Seconds; a Retry-After beyond it is cut, the next refusal counts as an attempt."""
_RETRIED = (408, 409, 429)


class Route(Protocol):
    """A way of its own to an endpoint. Pickles, and equals others that lead to the same place."""

    def open(self) -> Any:
        """An httpx transport, for the process that calls this."""
        ...


@dataclass(frozen=True)
class ChatSpec:
    """How to reach a model. A ChatDoor: pickles, workers open their own client."""

    name: str
    """Names the journal file and appears in errors."""
    base_url: str
    model: str
    api_key_env: str = ""
    """Environment variable of the opening process that holds the key; empty for an endpoint without one."""
    concurrency: int = 32
    """Calls in flight per opened client; a call that waits for its next attempt counts."""
    timeout_s: float = 60.0
    """Of one attempt, whole."""
    retries: int = 4
    """After the first attempt."""
    journal: str = ""
    """Folder of the journal; empty: nothing is recorded and nothing answered from records."""
    policy_version: int | None = None
    """Version the endpoint must serve, for a model that is trained; part of every journal key."""
    route: Route | None = None
    """How calls reach `base_url`; None: over the network."""
    budget: CallBudget | None = None
    """Bounds the calls that the journal cannot answer; None: nothing does."""

    def open(self) -> ChatModel:
        """Build the client, inside the process and event loop that will use it. Raises ConfigError without a key."""
        chat = OpenAIChat(self)
        if not self.journal:
            return chat
        inner = BoundedAsker(chat, self.budget) if self.budget else chat
        return JournaledChat(inner, Journal(self.journal, self.name), self.name, self.model, self.policy_version or 0)


class OpenAIChat:
    """The retrying client. Retries connection errors, time-outs, broken replies, 408, 409, 429 and 5xx."""

    def __init__(self, spec: ChatSpec) -> None:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        key = os.environ.get(spec.api_key_env, "") if spec.api_key_env else "none"
        if not key:
            raise ConfigError(f"models.{spec.name}: ${spec.api_key_env} is empty; set it where the workers run")
        transport = spec.route.open() if spec.route else None
        # proxies of the environment cannot reach our own loopback
        local = urlsplit(spec.base_url).hostname in ("127.0.0.1", "localhost", "::1")
        http = DefaultAsyncHttpxClient(trust_env=not local and transport is None, transport=transport)
        self._client = AsyncOpenAI(
            api_key=key, base_url=spec.base_url, max_retries=0, http_client=http, timeout=spec.timeout_s
        )
        self._places = asyncio.Semaphore(spec.concurrency)
        self._spec = spec

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`, without a journal: `call` is empty."""
        return await self.ask(request, Call())

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        """As `chat`; counts attempts. Raises PoolError when an image cannot be read."""
        import openai

        spec = self._spec
        retrying = AsyncRetrying(
            stop=stop_after_attempt(spec.retries + 1), wait=_wait, reraise=True, retry=retry_if_exception(_transient)
        )
        async with self._places:
            payload = await asyncio.to_thread(_payload, request, spec.model)
            try:
                async for attempt in retrying:
                    with attempt:
                        call.attempts += 1
                        return await self._once(payload, request.n)
            except openai.APIStatusError as error:
                if not _transient(error):
                    raise BadRequest(f"models.{spec.name}: {spec.base_url} refused ({_why(error)})") from error
                raise self._unavailable(error, call) from error
            except (openai.APIError, TimeoutError, ValueError, ModelUnavailable) as error:
                if isinstance(error, BadRequest):
                    raise
                raise self._unavailable(error, call) from error
        raise AssertionError("tenacity returns or raises")

    async def _once(self, payload: dict[str, Any], n: int) -> ChatReply:
        from openai.types.chat import ChatCompletion

        async with asyncio.timeout(self._spec.timeout_s):  # the client's own time-out starts anew with every byte
            reply = await self._client.chat.completions.create(**payload)
        if not isinstance(reply, ChatCompletion) or not reply.choices:
            raise ModelUnavailable("the reply has not the OpenAI form")
        if len(reply.choices) != n:
            raise BadRequest(f"models.{self._spec.name}: {len(reply.choices)} answers for n={n}; it does not support n")
        wanted, served = self._spec.policy_version, reply.system_fingerprint or ""
        if wanted is not None and served != f"v{wanted}":
            raise ModelUnavailable(f"it serves policy {served or 'unknown'}, v{wanted} is wanted")
        texts = tuple(c.message.content or "" for c in sorted(reply.choices, key=lambda c: c.index))
        name = f"{self._spec.model}@{served}" if served else self._spec.model
        usage = reply.usage
        return ChatReply(texts, name, "", usage.prompt_tokens if usage else 0, usage.completion_tokens if usage else 0)

    def _unavailable(self, error: BaseException, call: Call) -> ModelUnavailable:
        return ModelUnavailable(
            f"models.{self._spec.name}: {self._spec.base_url} did not answer in {call.attempts} "
            f"attempts (last: {_why(error)}); check the endpoint, then resume the run"
        )


def _transient(error: BaseException) -> bool:
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in _RETRIED or error.status_code >= 500
    # a ValueError is a body that is no JSON: a proxy's error page or a cut reply
    broken = isinstance(error, openai.APIError | TimeoutError | ModelUnavailable | ValueError)
    return broken and not isinstance(error, BadRequest)


def _wait(state: RetryCallState) -> float:
    response = getattr(state.outcome.exception() if state.outcome else None, "response", None)
    stated = response.headers.get("retry-after", "") if response is not None else ""
    if re.fullmatch(r"\d+(\.\d+)?", stated):
        return min(float(stated), _LONGEST_WAIT)
    if stated:
        try:
            seconds = (parsedate_to_datetime(stated) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date either: fall back to our own rhythm
            return _backoff(state.attempt_number)
        return min(max(seconds, 0.0), _LONGEST_WAIT)
    return _backoff(state.attempt_number)


def _backoff(attempt: int) -> float:
    return min(0.5 * 2.0 ** (attempt - 1), 30.0) + random.uniform(0, 0.5)


def _why(error: BaseException) -> str:
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"HTTP {status}: {text}" if status and str(status) not in text else text


def _payload(request: ChatRequest, model: str) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "model": model,
        "messages": [_turn(m) for m in request.messages],
        "n": request.n,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        payload["seed"] = request.seed
    return payload


def _turn(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_uri(read_bytes(image), image.media_type)}}
        for image in message.images
    ]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}
