"""From any process of the cluster to a served model, without a port: calls travel through Ray itself.

Serve puts HTTP proxies on the head and on nodes that hold a replica, never on all nodes (Ray 2.60,
`serve.config.ProxyLocation`), so annotation nodes that scale from zero have none. A deployment handle works everywhere,
and the cluster's token covers it.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import httpx2
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from dpe_ray.models.openai_reply import error_body

_RETRY_ADVICE = re.compile(r"^Failed to .+ after \d+/\d+ attempts", re.MULTILINE)
"""Where Ray 2.60 (`data._internal.util`) begins to write behind an error's own text."""


@dataclass(frozen=True)
class ServeRoute:
    """A `models.openai_chat.Route` to one app. Pickles into workers."""

    app: str

    def open(self) -> "ServeTransport":
        """Make the transport, inside the process that will use it."""
        return ServeTransport(self.app)


class ServeTransport(httpx2.AsyncBaseTransport):
    """Carries a POST to `.../v1/PATH` to the app and its reply back; what Ray could not do is a 503."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._handle: Any = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As every transport. Raises RemoteProtocolError where the app plays a broken connection."""
        path, body = request.url.path.partition("/v1/")[2], await request.aread()
        try:
            # looking it up asks the controller, and waits
            self._handle = self._handle or await asyncio.to_thread(serve.get_app_handle, self._app)
            status, content = await self._ask(path, body)
        except (RayError, RayServeException) as error:
            status, content = 503, json.dumps(error_body(f"{self._app}: {last_line(error)}", "server_error")).encode()
        if not content:
            raise httpx2.RemoteProtocolError("the connection broke off", request=request)
        return httpx2.Response(status, headers={"content-type": "application/json"}, content=content, request=request)

    async def _ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        call = self._handle.answer.remote(path, body)
        try:
            reply: tuple[int, bytes] = await call
        except asyncio.CancelledError:  # the client's time-out: the replica need not go on
            call.cancel()
            raise
        return reply


def last_line(error: BaseException) -> str:
    """What a remote traceback ends with, without Ray Data's advice on retries behind it."""
    lines = _RETRY_ADVICE.split(str(error))[0].strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
