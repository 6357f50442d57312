"""Where served models listen, who may ask them over HTTP, and what they may fetch."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from dpe_ray.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""All addresses of a machine, and the one of them by which it reaches itself."""


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
        if self.host not in LOOPBACK and not self.key:
            raise ConfigError(f"serve --host {self.host}: others can reach it; name a variable with --api-key-env")

    @property
    def door(self) -> str:
        """What keys are compared with: a digest, so that no key is stored anywhere; empty lets everybody in."""
        return digest(self.key) if self.key else ""

    def url(self, port: int, app: str) -> str:
        """`http://HOST:PORT/APP/v1`, as this machine reaches it."""
        host = EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/{app}/v1"


def closed_door() -> str:
    """Opens to no key: for a Serve that listens where others reach it, started by somebody else."""
    return digest(secrets.token_hex(32))


def digest(key: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def may_enter(door: str, authorization: str) -> bool:
    """Compare a request's `Authorization: Bearer KEY`, in a time that tells nothing about the key."""
    scheme, _, key = authorization.partition(" ")
    return not door or (hmac.compare_digest(digest(key.strip()), door) and scheme.lower() == "bearer")
