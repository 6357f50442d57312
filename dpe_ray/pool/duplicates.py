"""Which pictures are the same for our purposes: by their bytes, or by perceptual hash and pixels.

The hash alone would call a third of a simple pool equal, so pixels confirm what it suspects.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dpe_ray.errors import StoreError
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.types import ImageRef

SAME_BITS = 4
"""Of 64: hashes that differ in no more are suspect, pixels decide."""
SAME_PIXELS = 8.0
"""Mean absolute difference of grey thumbnails, of 255: re-encoding, scaling and a light blur stay far below."""
SIDE = 32
"""Pixels of a thumbnail."""
KEPT = 4096
"""Thumbnails kept in memory, 1 KB each; the others are made again when they are wanted."""

Thumbnail = NDArray[np.uint8]
"""[32, 32], 0-255."""


def thumbnail(image: ImageRef | str) -> Thumbnail:
    """Grey values of the image, or of that at a path, scaled to 32 x 32. Raises PoolError when it cannot be read."""
    small = decode(read_bytes(image)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def pixel_distance(one: Thumbnail, other: Thumbnail) -> float:
    """Mean absolute difference, 0-255."""
    return float(np.abs(one.astype(np.int16) - other).mean())


class SeenImages:
    """Images of a pass over the pool, in the order in which they came.

    About 0.3 KB each; a question takes 2 ms per million.
    """

    def __init__(self, path_of: Callable[[str], str]) -> None:
        """`path_of` names the place where the image of a SHA-256 lies."""
        self._path_of = path_of
        self._known: set[str] = set()
        self._shas: list[str] = []
        self._hashes = np.zeros(1024, dtype=np.uint64)
        self._rows = np.zeros(1024, dtype=np.int64)
        self._thumbnails: OrderedDict[str, Thumbnail] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shas)

    def why_same(self, image: ImageRef) -> str | None:
        """Say which earlier image this one repeats, or None. Raises PoolError when a suspect cannot be read."""
        if image.sha256 in self._known:
            return "the same bytes were drawn before"
        bits = np.bitwise_count(self._hashes[: len(self)] ^ np.uint64(int(image.phash, 16)))
        suspects = np.flatnonzero(bits <= SAME_BITS)
        if not len(suspects):
            return None
        own = self._thumbnail(image.sha256)
        for at in suspects:
            if pixel_distance(own, self._thumbnail(self._shas[at])) <= SAME_PIXELS:
                return f"near duplicate of {self._shas[at][:12]}, drawn before ({bits[at]} of 64 bits differ)"
        return None

    def add(self, image: ImageRef, row: int) -> None:
        """Remember an image that was drawn as the pool's `row`-th."""
        at = len(self)
        if at == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._known.add(image.sha256)
        self._shas.append(image.sha256)
        self._hashes[at], self._rows[at] = int(image.phash, 16), row

    def clear(self) -> None:
        """Forget all: a new pass begins."""
        self._known.clear()
        self._shas.clear()
        self._thumbnails.clear()

    def save(self, path: Path, rows: int) -> None:
        """Write what was drawn as the first `rows` rows of the pool. Raises StoreError."""
        n = int(np.searchsorted(self._rows[: len(self)], rows))
        shas = np.frombuffer(bytes.fromhex("".join(self._shas[:n])), dtype=np.uint8).reshape(-1, 32)
        try:
            np.savez(path, shas=shas, hashes=self._hashes[:n], rows=self._rows[:n])
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror}); check space and rights") from error

    @classmethod
    def load(cls, path: Path, path_of: Callable[[str], str]) -> "SeenImages":
        """Read what `save` wrote. Raises StoreError."""
        seen = cls(path_of)
        try:
            with np.load(path) as stored:
                shas, hashes, rows = stored["shas"], stored["hashes"], stored["rows"]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise StoreError(f"{path}: is no list of drawn images ({error}); remove the round and resume") from error
        seen._shas = [bytes(sha).hex() for sha in shas]
        seen._known = set(seen._shas)
        if len(hashes):
            seen._hashes, seen._rows = hashes, rows
        return seen

    def _thumbnail(self, sha256: str) -> Thumbnail:
        if sha256 in self._thumbnails:
            self._thumbnails.move_to_end(sha256)
        else:
            self._thumbnails[sha256] = thumbnail(self._path_of(sha256))
            if len(self._thumbnails) > KEPT:
                self._thumbnails.popitem(last=False)
        return self._thumbnails[sha256]
