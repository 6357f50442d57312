"""Images by URL, from places on an allow-list: an endpoint that fetches anything opens its network to all."""

from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

import httpx2

from dpe_ray.errors import ConfigError, PoolError
from dpe_ray.models.images import MAX_BYTES

_TIMEOUT_S = 20.0
_SCHEMES = ("http", "https")


def check_allowed(prefixes: Iterable[str]) -> None:
    """Raise ConfigError for an entry that is no `http(s)://host/path`."""
    for prefix in prefixes:
        parts = urlsplit(prefix)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"image URLs: {prefix!r} is no place; write https://host/folder")


async def fetch_images(urls: Iterable[str], allowed: tuple[str, ...]) -> dict[str, bytes]:
    """Bytes by URL. Follows no redirect, reads at most `images.MAX_BYTES` each. Raises PoolError."""
    wanted = list(dict.fromkeys(urls))
    for url in wanted:
        if not any(_within(url, urlsplit(prefix)) for prefix in allowed):
            raise PoolError(f"image_url: {url[:200]!r} is on no allow-list here; send a data URI")
    if not wanted:
        return {}
    async with httpx2.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as client:
        return {url: await _fetch(client, url) for url in wanted}


def _within(asked: str, place: SplitResult) -> bool:
    """Same scheme, host and port, and a path below; compared as the server will read it, so no `..` leads out."""
    try:
        url = urlsplit(asked)
    except ValueError:  # no URL at all
        return False
    same = (url.scheme, url.netloc.lower()) == (place.scheme, place.netloc.lower())
    path = unquote(unquote(url.path))
    steps = path.replace("\\", "/").split("/")
    below = path.startswith(place.path.rstrip("/") + "/")
    return same and below and ".." not in steps and "." not in steps


async def _fetch(client: httpx2.AsyncClient, url: str) -> bytes:
    data = bytearray()
    try:
        async with client.stream("GET", url) as reply:
            if reply.status_code != 200:
                raise PoolError(f"image_url: {url[:200]} gives HTTP {reply.status_code}; send a data URI")
            async for part in reply.aiter_bytes():
                data += part
                if len(data) > MAX_BYTES:
                    raise PoolError(f"image_url: {url[:200]} has more than {MAX_BYTES} bytes; send a smaller picture")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise PoolError(f"image_url: {url[:200]} cannot be fetched ({told}); send a data URI") from error
    return bytes(data)
