"""The wall around measured images: what is too near to a probe, gate or final item is not learned from.

Near are two images whose perceptual hashes differ in at most 4 of 64 bits and whose 32 x 32 grey thumbnails agree;
the hash alone would refuse a third of a simple pool. Images up to 10 bits apart are near when their questions are near
too. A question alone never refuses: templates repeat.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from dpe_ray.pool.duplicates import SAME_BITS, SAME_PIXELS, SIDE, pixel_distance, thumbnail
from dpe_ray.types import ImageRef, Sample

NEAR_BITS = 10
"""Of 64: image and question together are near."""
SAME_QUESTION = 0.9
"""Ratio of matching characters of normalised questions."""


@dataclass(frozen=True)
class HeldOut:
    """An index of held-out items. Pickles (1 KB per image), so workers can carry it."""

    shas: frozenset[str]
    hashes: NDArray[np.uint64]
    """[H] perceptual hash per held-out image."""
    thumbnails: NDArray[np.uint8]
    """[H, 32, 32]"""
    questions: tuple[frozenset[str], ...]
    """[H] normalised questions asked about the image."""

    @classmethod
    def build(cls, samples: Iterable[Sample]) -> "HeldOut":
        """Index the images of all probe, gate and final samples; reads each once. Raises PoolError."""
        images: dict[str, ImageRef] = {}
        questions: dict[str, set[str]] = {}
        for sample in samples:
            for image in sample.images:
                images[image.sha256] = image
                questions.setdefault(image.sha256, set()).add(normalised(sample.question))
        return cls(
            shas=frozenset(images),
            hashes=np.array([int(i.phash, 16) for i in images.values()], dtype=np.uint64),
            thumbnails=np.array([thumbnail(i) for i in images.values()], dtype=np.uint8).reshape(-1, SIDE, SIDE),
            questions=tuple(frozenset(questions[sha]) for sha in images),
        )

    def __call__(self, sample: Sample) -> str | None:
        """Say why a sample is too near to a held-out item, or None. Raises PoolError when an image cannot be read."""
        for image in sample.images:
            if reason := self._near(image, normalised(sample.question)):
                return reason
        return None

    def _near(self, image: ImageRef, question: str) -> str | None:
        if image.sha256 in self.shas:
            return "the image is held out"
        bits = np.bitwise_count(self.hashes ^ np.uint64(int(image.phash, 16)))
        suspects = np.flatnonzero(bits <= SAME_BITS)
        if len(suspects):
            own = thumbnail(image)
            distances = [pixel_distance(own, held) for held in self.thumbnails[suspects]]
            if min(distances) <= SAME_PIXELS:
                nearest = suspects[int(np.argmin(distances))]
                return f"near duplicate of a held-out image ({bits[nearest]} of 64 bits differ)"
        for at in np.flatnonzero(bits <= NEAR_BITS):
            if any(_alike(question, held) for held in self.questions[at]):
                return f"image ({bits[at]} of 64 bits differ) and question are both near a held-out item"
        return None


def normalised(question: str) -> str:
    """Lower case, words and numbers only, single spaces."""
    return " ".join(re.findall(r"\w+", question.casefold()))


def _alike(one: str, other: str) -> bool:
    return one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() >= SAME_QUESTION
