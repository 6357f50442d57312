"""Images from the web, fetched as if every server were hostile.

The address is checked and pinned before each request, redirects included; bytes are counted while they come; only then
is the content looked at (`rasters`). Proxies of the environment are not used: they would resolve names themselves.
"""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpx2

from dpe_ray.models.addresses import Resolve, public_address, resolve
from dpe_ray.models.rasters import Caps, Refusal, RefusedImage, plain_picture

_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class DownloadSettings:
    """What may be fetched, and how."""

    user_agent: str = "dpe-ray/0.1"
    """Sent along; many hosts ask for a contact address in it."""
    max_redirects: int = 3
    timeout_s: float = 30.0
    """Of one image, redirects included."""
    networks: tuple[str, ...] = ()
    """CIDR of networks that are not public but may be asked, such as that of an image server of your own."""
    caps: Caps = field(default_factory=Caps)


@dataclass(frozen=True)
class Downloaded:
    """One image from the web."""

    data: bytes
    """A plain JPEG or PNG, encoded anew."""
    url: str
    """Where it lay in the end."""


class Downloader:
    """Fetches images. Holds no connection; one for a whole worker."""

    def __init__(self, settings: DownloadSettings = DownloadSettings(), resolve: Resolve = resolve) -> None:
        self._settings, self._resolve = settings, resolve

    async def fetch(self, url: str) -> Downloaded:
        """Fetch one image and make it plain. Raises RefusedImage, whatever goes wrong."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                raw, declared, place = await self._follow(url)
        except TimeoutError as error:
            reason = f"{url[:200]} took more than {self._settings.timeout_s:g} s"
            raise RefusedImage(Refusal.UNREACHABLE, reason) from error
        except httpx2.HTTPError as error:
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise RefusedImage(Refusal.UNREACHABLE, f"{url[:200]} ({told})") from error
        return Downloaded(await asyncio.to_thread(plain_picture, raw, declared, self._settings.caps), place)

    async def _follow(self, url: str) -> tuple[bytes, str, str]:
        """Bytes, declared media type and final place."""
        place = _parsed(url)
        for _ in range(self._settings.max_redirects + 1):
            reply, data = await self._get(place)
            if reply.status_code not in _REDIRECTS:
                return data, reply.headers.get("content-type", ""), str(place)
            target = reply.headers.get("location", "")
            if not target:
                raise RefusedImage(Refusal.REDIRECTS, f"{str(place)[:200]} leads nowhere")
            place = _parsed(urljoin(str(place), target), before=place)
        raise RefusedImage(Refusal.REDIRECTS, f"{url[:200]} has more than {self._settings.max_redirects}")

    async def _get(self, place: httpx2.URL) -> tuple[httpx2.Response, bytes]:
        """One hop, to the address that was checked; a redirect's body is not read."""
        host = place.raw_host.decode("ascii")
        address = await public_address(host, _port(place), self._settings.networks, self._resolve)
        headers = {
            "host": place.netloc.decode("ascii"),
            "user-agent": self._settings.user_agent,
            "accept": "image/*",
            "accept-encoding": "identity",
        }
        # certificates are checked for the name, though the connection goes to the address
        extensions = {"sni_hostname": host}
        async with (
            httpx2.AsyncClient(trust_env=False, timeout=self._settings.timeout_s) as client,
            client.stream("GET", place.copy_with(host=address), headers=headers, extensions=extensions) as reply,
        ):
            if reply.status_code in _REDIRECTS:
                return reply, b""
            if reply.status_code != 200:
                raise RefusedImage(Refusal.UNREACHABLE, f"{str(place)[:200]} gives HTTP {reply.status_code}")
            return reply, await self._body(reply)

    async def _body(self, reply: httpx2.Response) -> bytes:
        most = self._settings.caps.max_bytes
        encoding = reply.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise RefusedImage(Refusal.ENCODING, f"comes as {encoding[:40]}")
        stated = reply.headers.get("content-length", "0")
        if stated.isdigit() and int(stated[:20]) > most:
            raise RefusedImage(Refusal.SIZE, f"{stated[:20]} bytes are stated, {most} allowed")
        data = bytearray()
        async for part in reply.aiter_raw():
            data += part
            if len(data) > most:
                raise RefusedImage(Refusal.SIZE, f"more than {most} bytes")
        return bytes(data)


def _parsed(text: str, before: httpx2.URL | None = None) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as error:
        raise RefusedImage(Refusal.URL, f"{text[:200]!r} is none") from error
    if url.scheme not in _PORTS or (before is not None and before.scheme == "https" and url.scheme == "http"):
        raise RefusedImage(Refusal.SCHEME, f"{text[:200]!r}; http and https are taken, and no way back to http")
    if not url.host or url.userinfo or not 0 < _port(url) < 65536:
        raise RefusedImage(Refusal.URL, f"{text[:200]!r} has no host, no possible port, or a user name")
    return url


def _port(url: httpx2.URL) -> int:
    return _PORTS[url.scheme] if url.port is None else url.port
