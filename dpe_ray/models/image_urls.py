"""Images by URL, from places on an allow-list: an endpoint that fetches anything opens its network to all."""

import asyncio
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

import httpx2

from dpe_ray.errors import ConfigError, PoolError
from dpe_ray.models.images import MAX_BYTES

ALL_WITHIN_S = 30.0
"""For all images of a request together; a server that sends a byte now and then would hold it for ever."""
MAX_ALL_BYTES = 2 * MAX_BYTES
"""Of all images of a request together."""
_SCHEMES = ("http", "https")


def check_allowed(prefixes: Iterable[str]) -> None:
    """Raise ConfigError for an entry that is no `http(s)://host/path`."""
    for prefix in prefixes:
        parts = urlsplit(prefix)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"image URLs: {prefix!r} is no place; write https://host/folder")


async def fetch_images(urls: Iterable[str], allowed: tuple[str, ...]) -> dict[str, bytes]:
    """Bytes by URL. Follows no redirect, keeps to `images.MAX_BYTES` each and to the limits here. Raises PoolError."""
    wanted = list(dict.fromkeys(urls))
    for url in wanted:
        if not any(_within(url, urlsplit(prefix)) for prefix in allowed):
            raise PoolError(f"image_url: {url[:200]!r} is on no allow-list here; send a data URI")
    if not wanted:
        return {}
    try:
        async with asyncio.timeout(ALL_WITHIN_S):
            return await _fetch_in_turn(wanted)
    except TimeoutError as error:
        raise PoolError(f"image_url: images took more than {ALL_WITHIN_S:g} s; send data URIs") from error


async def _fetch_in_turn(urls: Iterable[str]) -> dict[str, bytes]:
    fetched: dict[str, bytes] = {}
    left = MAX_ALL_BYTES
    async with httpx2.AsyncClient(timeout=ALL_WITHIN_S, follow_redirects=False) as client:
        for url in urls:
            fetched[url] = await _fetch(client, url, min(MAX_BYTES, left))
            left -= len(fetched[url])
    return fetched


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


async def _fetch(client: httpx2.AsyncClient, url: str, limit: int) -> bytes:
    data = bytearray()
    try:
        async with client.stream("GET", url) as reply:
            if reply.status_code != 200:
                raise PoolError(f"image_url: {url[:200]} gives HTTP {reply.status_code}; send a data URI")
            async for part in reply.aiter_bytes():
                data += part
                if len(data) > limit:
                    raise PoolError(
                        f"image_url: {url[:200]} has more than {limit} bytes; send smaller or fewer pictures"
                    )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise PoolError(f"image_url: {url[:200]} cannot be fetched ({told}); send a data URI") from error
    return bytes(data)
