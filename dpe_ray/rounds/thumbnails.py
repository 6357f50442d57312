"""Pictures for the report: whatever the bytes are, what leaves here was drawn and encoded by us."""

import io
from collections.abc import Callable

from dpe_ray.errors import PoolError
from dpe_ray.models import images
from dpe_ray.types import ImageRef

EDGE = 320
"""Longest side of a thumbnail, in pixels."""
LOSSLESS_EDGE = 128
"""Pictures up to this size stay lossless: JPEG blurs small drawings."""


def thumbnail(image: ImageRef, read: Callable[[ImageRef], bytes]) -> str:
    """Make a `data:image/...` address of the shrunken picture; empty when it cannot be read or decoded."""
    try:
        return encode(read(image))
    except (PoolError, OSError):
        return ""


def encode(data: bytes) -> str:
    """Decode, shrink and encode anew, so that no byte of the input is passed on. Raises PoolError."""
    picture = images.decode(data)
    picture.thumbnail((EDGE, EDGE))
    kind = "png" if max(picture.size) <= LOSSLESS_EDGE else "jpeg"
    out = io.BytesIO()
    picture.save(out, kind, quality=85, optimize=True)
    return images.data_uri(out.getvalue(), f"image/{kind}")
