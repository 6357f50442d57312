"""Openverse, a search over openly licensed images: https://api.openverse.org/v1/images/.

Anonymous use is held to 20 results a page and about one request a second (its documentation, "Authentication and
throttling"); its terms forbid harvesting the catalogue, so this serves single searches, not the filling of a pool.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import BaseModel, ValidationError

from dpe_ray.errors import BadReply, BadRequest, ConfigError, ModelUnavailable
from dpe_ray.models.web_image import WebImage

MOST_RESULTS = 20
DEPTH = 200
"""Results behind which no page is asked for: anonymous paging ends soon after, and what comes there fits badly."""


@dataclass(frozen=True)
class OpenverseSettings:
    """How to ask. Pickles."""

    base_url: str = "https://api.openverse.org/v1"
    token_env: str = ""
    """Environment variable that holds an OAuth2 access token; empty asks anonymously."""
    licence_type: str = "commercial,modification"
    """Uses that the licence must allow: commercial, modification, both, or all for any licence."""
    user_agent: str = "dpe-ray/0.1"
    pause_s: float = 1.0
    """Between requests of this client."""
    timeout_s: float = 30.0


class _Found(BaseModel):
    url: str | None = None
    foreign_landing_url: str | None = None
    license: str = ""
    license_version: str | None = None
    attribution: str | None = None


class _Reply(BaseModel):
    results: list[_Found]


class Openverse:
    """The client; one per worker."""

    def __init__(self, settings: OpenverseSettings = OpenverseSettings()) -> None:
        """Raises ConfigError without the token that the settings ask for."""
        token = os.environ.get(settings.token_env, "") if settings.token_env else ""
        if settings.token_env and not token:
            raise ConfigError(f"openverse: ${settings.token_env} is empty; set it where the workers run")
        self._headers = {"user-agent": settings.user_agent} | ({"authorization": f"Bearer {token}"} if token else {})
        self._settings, self._turn = settings, asyncio.Lock()

    async def search(self, query: str, count: int, page: int = 0) -> list[WebImage]:
        """Up to `count` <= 20 images, best first. Raises ModelUnavailable, BadRequest, BadReply."""
        asked = {"q": query[:200], "page_size": min(count, MOST_RESULTS), "mature": "false"}
        if page := page % max(1, DEPTH // count):
            asked["page"] = page + 1
        if self._settings.licence_type != "all":
            asked["license_type"] = self._settings.licence_type
        try:
            reply = _Reply.model_validate(await self._get(asked))
        except ValidationError as error:
            raise BadReply(f"openverse: an unknown form of reply ({error.error_count()} errors)") from error
        return [
            WebImage(
                image.url,
                image.foreign_landing_url or image.url,
                " ".join(part for part in (image.license, image.license_version) if part),
                image.attribution or "",
            )
            for image in reply.results[:count]
            if image.url
        ]

    async def _get(self, asked: dict[str, Any]) -> Any:
        settings = self._settings
        async with self._turn, httpx2.AsyncClient(timeout=settings.timeout_s, headers=self._headers) as client:
            try:
                reply = await client.get(f"{settings.base_url.rstrip('/')}/images/", params=asked)
                body = reply.json() if reply.status_code == 200 else None
            except (httpx2.HTTPError, ValueError) as error:
                told = " ".join(str(error).split())[:200] or type(error).__name__
                raise ModelUnavailable(f"openverse: {settings.base_url} did not answer ({told})") from error
            finally:
                await asyncio.sleep(settings.pause_s)
        if reply.status_code == 429 or reply.status_code >= 500:
            raise ModelUnavailable(f"openverse: HTTP {reply.status_code}; ask less often, or with a token")
        if reply.status_code != 200:
            raise BadRequest(f"openverse: HTTP {reply.status_code}: {' '.join(reply.text.split())[:200]}")
        return body
