"""What all doors to OpenAI-compatible endpoints share. Speaks through the official package."""

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from dpe_ray.errors import BadRequest, ConfigError, EndpointDown, ModelUnavailable
from dpe_ray.models.journal import Call
from dpe_ray.models.pacing import DOWN_AFTER_S, Breaker, Clock, Places, StallWatch
from dpe_ray.models.price import Price

if TYPE_CHECKING:
    import openai
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)
T = TypeVar("T")
_LONGEST_WAIT = 120.0
"""Seconds; a Retry-After beyond it is cut, the next refusal counts as an attempt."""
_RETRIED = (408, 409, 429)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Route(Protocol):
    """A way of its own to an endpoint. Pickles, and equals others that lead to the same place."""

    def open(self) -> Any:
        """An httpx transport, for the process that calls this."""
        ...


@dataclass(frozen=True)
class EndpointSpec:
    """How to reach a model."""

    name: str
    """Names the journal file and appears in errors."""
    base_url: str
    model: str
    api_key_env: str = ""
    """Environment variable of the opening process that holds the key; empty for an endpoint without one."""
    concurrency: int = 32
    """Most calls in flight per opened client; a call that waits for its next attempt counts. Fewer while the endpoint
    is pressed too hard."""
    timeout_s: float = 60.0
    """Of one attempt, whole."""
    retries: int = 4
    """After the first attempt."""
    route: Route | None = None
    """How calls reach `base_url`; None: over the network."""
    price: Price = field(default_factory=Price)
    """By which a budget counts the money of its calls."""
    stalls: str = ""
    """File to which a line is added when calls of a role hang; empty: the log alone."""


class RetryingClient:
    """Sends calls. Retries connection errors, time-outs, broken replies, 408, 409, 429 and 5xx.

    Has fewer in flight while the endpoint refuses or fails again and again, stops asking one that is down, and logs
    when calls of a role hang.
    """

    def __init__(self, spec: EndpointSpec, clock: Clock = time.monotonic) -> None:
        """Raises ConfigError without the key that `spec` asks for."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        key = os.environ.get(spec.api_key_env, "") if spec.api_key_env else "none"
        if not key:
            raise ConfigError(f"models.{spec.name}: ${spec.api_key_env} is empty; set it where the workers run")
        transport = spec.route.open() if spec.route else None
        # proxies of the environment cannot reach our own loopback
        direct = transport is not None or urlsplit(spec.base_url).hostname in _LOOPBACK
        http = DefaultAsyncHttpxClient(trust_env=not direct, transport=transport)
        self._client = AsyncOpenAI(
            api_key=key, base_url=spec.base_url, max_retries=0, http_client=http, timeout=spec.timeout_s
        )
        self._spec, self._clock = spec, clock
        self._places, self._breaker = Places(spec.concurrency, clock), Breaker(clock)
        self._watch = StallWatch(self._tell, clock)

    async def ask(
        self,
        prepare: Callable[[], dict[str, Any]],
        send: Callable[["AsyncOpenAI", dict[str, Any]], Awaitable[T]],
        call: Call,
    ) -> T:
        """Await `send(client, prepare())` until it succeeds; counts attempts.

        `prepare` runs in a thread, once, when the call has its place. Raises ModelUnavailable after all retries, and
        for a broken reply, which `send` tells by raising it; BadRequest when refused; EndpointDown.
        """
        import openai

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._spec.retries + 1),
            wait=_wait,
            reraise=True,
            retry=retry_if_exception(lambda error: _transient(error) and not self._breaker.is_open),
        )
        async with self._places:
            payload = await asyncio.to_thread(prepare)
            try:
                with self._watch.watching(call.role):
                    async for attempt in retrying:
                        with attempt:
                            call.attempts += 1
                            return await self._attempt(send, payload)
            except openai.APIStatusError as error:
                if not _transient(error):
                    raise self._refused(error) from error
                raise self._unavailable(error, call) from error
            except (openai.APIError, TimeoutError, ValueError, ModelUnavailable) as error:
                if isinstance(error, BadRequest):
                    raise
                raise self._unavailable(error, call) from error
        raise AssertionError("tenacity returns or raises")

    async def _attempt(
        self, send: Callable[["AsyncOpenAI", dict[str, Any]], Awaitable[T]], payload: dict[str, Any]
    ) -> T:
        import openai

        began = self._clock()
        try:
            # the client's own time-out starts anew with every byte
            async with asyncio.timeout(self._spec.timeout_s):
                reply = await send(self._client, payload)
        except (openai.APIError, TimeoutError, ValueError, ModelUnavailable) as error:
            if not _transient(error):
                self._breaker.succeeded()
                raise
            self._breaker.failed()
            if _is_pressed(error) or self._breaker.is_repeated:
                self._places.shrink(began)
            raise
        self._breaker.succeeded()
        self._places.grow()
        return reply

    def _tell(self, role: str, calls: int, seconds: float) -> None:
        name, url = self._spec.name, self._spec.base_url
        told = f"models.{name}: {url}: no call of {role} ended for {seconds:.0f} s, {calls} in flight"
        log.warning("%s", told)
        if self._spec.stalls:
            with open(self._spec.stalls, "a", encoding="utf-8") as file:
                file.write(told + "\n")

    def _refused(self, error: "openai.APIStatusError") -> BadRequest:
        spec = self._spec
        key = f"the key in ${spec.api_key_env}" if spec.api_key_env else "api_key_env: it names no key"
        check = {401: key, 403: key, 404: f"base_url and model ({spec.model})"}.get(error.status_code, "")
        advice = f"; check {check}, then resume the run" if check else ""
        return BadRequest(f"models.{spec.name}: {spec.base_url} refused ({_why(error)}){advice}")

    def _unavailable(self, error: BaseException, call: Call) -> ModelUnavailable | EndpointDown:
        if self._breaker.is_open:
            return EndpointDown(
                f"models.{self._spec.name}: {self._spec.base_url} is down: nothing came back for "
                f"{DOWN_AFTER_S:.0f} s or more (last: {_why(error)}); start it again, then resume the run"
            )
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


def _is_pressed(error: BaseException) -> bool:
    """Whether the endpoint says itself that it has too much to do."""
    response = getattr(error, "response", None)
    return response is not None and (response.status_code == 429 or "retry-after" in response.headers)


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
