"""Images by content: bytes lie once under the hash of what they are."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import imagehash

from dpe_ray.errors import PoolError, StoreError
from dpe_ray.models.images import decode, media_type
from dpe_ray.pool.readers import cell_bytes
from dpe_ray.types import ImageRef

LONGEST_NAME = 2_000
"""Signs of a path or URL; a longer text holds the picture itself."""


@dataclass(frozen=True)
class ImageStore:
    """A folder of images, each in a file named by its SHA-256. Safe for several writers: files appear whole."""

    folder: Path

    def put(self, data: bytes, origin: str = "pool", licence: str = "", source: str = "") -> ImageRef:
        """Decode, hash and store one image, and note where it comes from.

        Raises PoolError when it is none, StoreError when it cannot be written.
        """
        picture = decode(data)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / sha256
        if not path.exists():
            _write(path, data, durable=origin in ("search", "edit"))
        return ImageRef(
            sha256=sha256,
            phash=str(imagehash.phash(picture)),
            width=picture.width,
            height=picture.height,
            media_type=media_type(data),
            uri=str(path),
            origin=origin,
            licence=licence,
            source=source,
        )


def stored(cell: Any, beside: str, store: ImageStore) -> ImageRef:
    """Store what a labelled set holds for an image: what `cell_bytes` takes. Raises PoolError that names the image."""
    name = str(cell.get("path") or "") if isinstance(cell, dict) else cell if isinstance(cell, str) else ""
    if len(name) > LONGEST_NAME:
        raise PoolError(f"an image is a text of {len(name)} signs ({name[:20]}...), not bytes, path or URL")
    try:
        return store.put(cell_bytes(cell, beside))
    except PoolError as error:
        if not name or name in str(error):
            raise
        raise type(error)(f"image {name}: {str(error).removeprefix('image: ')}") from error


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    """`durable`: on the disk when this returns, since it was fetched or paid for; others can be made again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(file.name, path)
    except OSError as error:
        raise StoreError(f"{path.parent}: cannot be written ({error.strerror}); check space and rights") from error
