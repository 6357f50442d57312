"""Where served models listen, who may ask them over HTTP, and what they may fetch."""

import hashlib
import hmac
import http.client
import random
import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass

from dpe_ray.errors import ClusterError, ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""All addresses of a machine, and the one of them by which it reaches itself."""
_CLOSED = "closed"
"""A door that no key opens: no digest reads so."""
_OURS = range(20_000, 32_000)
"""Below the ports that a system hands out by itself: some seconds pass until Serve listens."""
_READY_S = 60.0


@dataclass(frozen=True)
class Listen:
    """The HTTP side of served models. Calls through Ray need none of it: they have the cluster's token."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free one."""
    key: str = ""
    """Must come with every request; may be empty on loopback alone."""
    image_urls: tuple[str, ...] = ()
    """Places whose images may be named by URL."""

    def check(self, variable: str) -> None:
        """Raise ConfigError for a host that others reach without a key, and for one that `variable` should hold."""
        if variable and not self.key:
            raise ConfigError(f"serve --api-key-env: ${variable} is empty; put a key there")
        if self.open_to_others:
            raise ConfigError(f"serve --host {self.host}: others can reach it; name a variable with --api-key-env")

    @property
    def open_to_others(self) -> bool:
        """Whether others reach this address, and no key keeps them out."""
        return self.host not in LOOPBACK and not self.key

    @property
    def door(self) -> str:
        """What keys are compared with: a digest, so that no key is stored anywhere; empty lets everybody in.

        Where it would be open to others it opens to nobody, and calls through Ray alone remain.
        """
        if self.open_to_others:
            return _CLOSED
        return digest(self.key) if self.key else ""

    def url(self, app: str) -> str:
        """`http://HOST:PORT/APP/v1`, as the machine that listens reaches it."""
        host = EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{app}/v1"


def free_port(host: str, port: int) -> int:
    """Return `port`, or for 0 any that is free on this machine. Raises ClusterError.

    Serve itself would share a port that another Serve listens on, and each would get some of the other's requests.
    """
    if port:
        return _bound(host, port)
    for drawn in random.SystemRandom().sample(_OURS, 20):
        with suppress(ClusterError):
            return _bound(host, drawn)
    return _bound(host, 0)


def _bound(host: str, port: int) -> int:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a moment ago is free
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        told = error.strerror or error
        raise ClusterError(f"serve: cannot listen on {host}:{port} ({told}); choose another host, or port 0") from error


def wait_until_ready(url: str) -> None:
    """Return when a model's URL answers here, if only to ask for a key. Raises ClusterError after a minute."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            with direct.open(f"{url}/models", timeout=5):
                return
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            if isinstance(error, urllib.error.HTTPError) and error.code == 401:
                return
            if time.monotonic() > deadline:
                raise ClusterError(f"{url} does not answer ({error}); see the Serve logs of this session") from error
        time.sleep(0.1)


def digest(key: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def may_enter(door: str, authorization: str) -> bool:
    """Compare a request's `Authorization: Bearer KEY`, in a time that tells nothing about the key."""
    scheme, _, key = authorization.partition(" ")
    return not door or (hmac.compare_digest(digest(key.strip()), door) and scheme.lower() == "bearer")
