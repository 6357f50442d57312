"""Two image searches behind one port: over the pool's captions by BM25, and over the web."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dpe_ray.errors import ConfigError, PoolError
from dpe_ray.models.downloads import Downloader, DownloadSettings
from dpe_ray.models.openverse import Openverse, OpenverseSettings
from dpe_ray.models.rasters import RefusedImage
from dpe_ray.models.web_image import WebImage
from dpe_ray.ports import ImageKeeper
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.sparse import index_words
from dpe_ray.types import ImageRef, Rejection

AT_ONCE = 8
"""Downloads in flight per search."""
NO_CAPTIONS = (
    "tools.search.source: pool finds images by captions, titles, tags or file names, and this pool has none; "
    "add a caption column, or set tools.search.source: web or supply.annotate.start: image"
)


class WebProvider(Protocol):
    """Knows of images on the web."""

    async def search(self, query: str, count: int, page: int = 0) -> Sequence[WebImage]:
        """Up to `count`, best first, of a page from 0. Raises ModelUnavailable, BadRequest."""
        ...


@dataclass(frozen=True)
class PoolSearchDoor:
    """How a worker comes to search the pool. Pickles when its two functions do."""

    captions: Callable[[], Iterable[tuple[str, str]]]
    """Rows of the pool and the texts about their images."""
    load: Callable[[str], ImageRef | Rejection]
    """Reads the image of a row."""
    name: str = "pool"

    def open(self) -> "PoolSearch":
        """Build the search; nothing is read yet."""
        return PoolSearch(self.captions, self.load)


class PoolSearch:
    """Finds pool images whose captions or tags share words with a query. Indexed once, with the first search."""

    def __init__(
        self, captions: Callable[[], Iterable[tuple[str, str]]], load: Callable[[str], ImageRef | Rejection]
    ) -> None:
        """As the fields of `PoolSearchDoor`."""
        self._captions, self._load = captions, load
        self._ranker: Ranker[str] | None = None
        self._indexing = asyncio.Lock()

    async def search(self, query: str, count: int, page: int = 0) -> list[ImageRef | Rejection]:
        """As `ImageSearch.search`."""
        async with self._indexing:
            if self._ranker is None:
                self._ranker = await asyncio.to_thread(self._indexed)
        (hits,) = await self._ranker.rank([query], count * (page + 1))
        start = count * (page % max(1, -(-len(hits) // count)))
        return [await asyncio.to_thread(self._load, row) for row, _ in hits[start : start + count]]

    def _indexed(self) -> Ranker[str]:
        captions = dict(self._captions())
        if not captions:
            raise ConfigError(NO_CAPTIONS)
        return index_words(captions)


@dataclass(frozen=True)
class WebSearchDoor:
    """How a worker comes to search the web. Pickles when the keeper does."""

    keeper: ImageKeeper
    openverse: OpenverseSettings = field(default_factory=OpenverseSettings)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    name: str = "openverse"

    def open(self) -> "WebSearch":
        """Build the clients. Raises ConfigError without the token that the settings ask for."""
        return WebSearch(Openverse(self.openverse), Downloader(self.downloads), self.keeper)


@dataclass(frozen=True)
class WebSearch:
    """Asks a provider, and fetches what it names as if every server were hostile."""

    provider: WebProvider
    downloader: Downloader
    keeper: ImageKeeper

    async def search(self, query: str, count: int, page: int = 0) -> list[ImageRef | Rejection]:
        """As `ImageSearch.search`; an image that is refused is a Rejection of gate `download`."""
        found = await self.provider.search(query, count, page)
        if not found and page:
            found = await self.provider.search(query, count)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(image: WebImage) -> ImageRef | Rejection:
            async with places:
                return await self._fetched(image)

        return list(await asyncio.gather(*[one(image) for image in found]))

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
