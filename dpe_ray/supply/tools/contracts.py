"""What the tools ask of each other, and what agents ask of them."""

from collections.abc import Sequence
from typing import Protocol

from dpe_ray.models.web_image import WebImage
from dpe_ray.supply.tools.operations import EditPlan
from dpe_ray.types import ImageRef, Rejection


class ImageKeeper(Protocol):
    """Where new images are kept."""

    def put(self, data: bytes, origin: str = "pool", licence: str = "", source: str = "") -> ImageRef:
        """Store encoded bytes by content. Raises PoolError when they are no image, StoreError."""
        ...


class ImageSearch(Protocol):
    """Finds images for words."""

    async def search(self, query: str, count: int) -> list[ImageRef | Rejection]:
        """Up to `count` results, best first; a Rejection (slot 0) stands for one that cannot be used.

        Raises ModelUnavailable when whoever is asked does not answer.
        """
        ...


class WebProvider(Protocol):
    """Knows of images on the web."""

    async def search(self, query: str, count: int) -> Sequence[WebImage]:
        """Up to `count`, best first. Raises ModelUnavailable, BadRequest."""
        ...


class ImageEditor(Protocol):
    """Makes a new image from others."""

    async def edit(self, images: Sequence[ImageRef], plan: EditPlan, *, category: str, seed: int) -> ImageRef:
        """Edit the first image; the others may be set beside it. Equal arguments, equal bytes where operations do it.

        Raises RefusedEdit when the plan cannot be done or its category forbids it, PoolError, and what models raise.
        """
        ...
