"""Two image searches behind one port: over the pool's captions by BM25, and over the web."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dpe_ray.errors import PoolError
from dpe_ray.models.downloads import Downloader
from dpe_ray.models.rasters import RefusedImage
from dpe_ray.models.web_image import WebImage
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.supply.tools.contracts import ImageKeeper, WebProvider
from dpe_ray.types import ImageRef, Rejection

AT_ONCE = 8
"""Downloads in flight per search."""


class PoolSearch:
    """Finds pool images whose captions or tags share words with a query."""

    def __init__(self, captions: Mapping[str, str], load: Callable[[str], ImageRef | Rejection]) -> None:
        """`captions` by row of the pool; `load` reads the image of a row."""
        self._ranker, self._load = index_words(captions), load

    async def search(self, query: str, count: int) -> list[ImageRef | Rejection]:
        """As `ImageSearch.search`."""
        (hits,) = await self._ranker.rank([query], count)
        return [await asyncio.to_thread(self._load, row) for row, _ in hits]


@dataclass(frozen=True)
class WebSearch:
    """Asks a provider, and fetches what it names as if every server were hostile."""

    provider: WebProvider
    downloader: Downloader
    keeper: ImageKeeper

    async def search(self, query: str, count: int) -> list[ImageRef | Rejection]:
        """As `ImageSearch.search`; an image that is refused is a Rejection of gate `download`."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(image: WebImage) -> ImageRef | Rejection:
            async with places:
                return await self._fetched(image)

        return list(await asyncio.gather(*[one(image) for image in await self.provider.search(query, count)]))

    async def _fetched(self, image: WebImage) -> ImageRef | Rejection:
        if not image.licence:
            return Rejection(0, "download", f"{image.url[:200]}: states no licence")
        try:
            got = await self.downloader.fetch(image.url)
            credit = f"{image.page} ({image.attribution})" if image.attribution else image.page
            return await asyncio.to_thread(self.keeper.put, got.data, "search", image.licence, credit)
        except RefusedImage as error:
            return Rejection(0, "download", f"{image.url[:200]}: {error}")
        except PoolError as error:
            return Rejection(0, "image", f"{image.url[:200]}: {error}")
