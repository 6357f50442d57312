"""Reading drawn pictures back: what checkers measure with. Nothing here knows how a picture was made."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from dpe_ray.supply.construct.drawing import Colour, font
from dpe_ray.supply.construct.task import Unsettled

Mask = NDArray[np.bool_]
"""[H, W]"""


@dataclass(frozen=True)
class Blob:
    """A connected piece of one colour. Pixels; edges are inclusive."""

    top: int
    left: int
    bottom: int
    right: int
    area: int
    x: float
    """Of the centroid."""
    y: float

    @property
    def fill(self) -> float:
        """Share of its bounding box that it covers, 0-1."""
        return self.area / ((self.bottom - self.top + 1) * (self.right - self.left + 1))


def where(pixels: NDArray[np.uint8], colour: Colour) -> Mask:
    """Places of exactly this colour."""
    red, green, blue = colour
    return (pixels[..., 0] == red) & (pixels[..., 1] == green) & (pixels[..., 2] == blue)


def blobs(mask: Mask, least: int = 12) -> list[Blob]:
    """Pieces of at least so many pixels, from left to right; pieces that touch at corners are one."""
    labelled, _ = ndimage.label(mask, np.ones((3, 3)))
    found = []
    for at, box in enumerate(ndimage.find_objects(labelled), start=1):
        ys, xs = np.nonzero(labelled[box] == at)
        top, left = box[0].start, box[1].start
        if len(xs) >= least:
            edges = (top, left, box[0].stop - 1, box[1].stop - 1)
            found.append(Blob(*edges, len(xs), left + float(xs.mean()), top + float(ys.mean())))
    return sorted(found, key=lambda blob: (blob.left, blob.top))


def only(found: list[Blob], what: str) -> Blob:
    """The one piece there is. Raises Unsettled."""
    if len(found) != 1:
        raise Unsettled(f"{len(found)} pieces for {what}")
    return found[0]


def lines(mask: Mask, axis: int, least: float) -> list[int]:
    """Rows (axis 1) or columns (axis 0) of which at least this share is set; of thick lines the middle."""
    full = np.flatnonzero(mask.mean(axis=axis) >= least)
    groups = np.split(full, np.flatnonzero(np.diff(full) > 1) + 1) if len(full) else []
    return [int(group.mean()) for group in groups]


def whole(value: float, what: str, slack: float = 0.3) -> int:
    """Round what was measured. Raises Unsettled when it lies too far between two whole numbers."""
    if abs(value - round(value)) > slack:
        raise Unsettled(f"{what} measures {value:.2f}")
    return round(value)


def read_number(pixels: NDArray[np.uint8], size: int) -> int:
    """Read a dark whole number on a light ground, glyph by glyph, written in `size` pixels. Raises Unsettled."""
    ink = pixels.mean(axis=-1) < 128
    columns = np.flatnonzero(ink.any(axis=0))
    if not len(columns):
        raise Unsettled("no number where one should stand")
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    rows = np.flatnonzero(ink.any(axis=1))
    text = "".join(_glyph(ink[rows[0] : rows[-1] + 1, run[0] : run[-1] + 1], size) for run in runs)
    try:
        return int(text)
    except ValueError as error:
        raise Unsettled(f"{text!r} is no whole number") from error


def _glyph(ink: Mask, size: int) -> str:
    """Which character differs least; a dash has its height told by nothing else in its columns."""
    rows = np.flatnonzero(ink.any(axis=1))
    cut = ink[rows[0] : rows[-1] + 1]
    errors = {char: _difference(cut, shape) for char, shape in _shapes(size).items()}
    best = min(errors, key=lambda char: errors[char])
    if errors[best] > 0.25:
        raise Unsettled(f"a glyph is no digit ({errors[best]:.2f} differ)")
    return best


def _difference(one: Mask, other: Mask) -> float:
    """Share of pixels that differ, both padded to the same size at the bottom right."""
    height, width = max(one.shape[0], other.shape[0]), max(one.shape[1], other.shape[1])
    padded = [np.pad(m, ((0, height - m.shape[0]), (0, width - m.shape[1]))) for m in (one, other)]
    return float((padded[0] ^ padded[1]).mean())


@cache
def _shapes(size: int) -> dict[str, Mask]:
    shapes = {}
    for char in "0123456789-":
        picture = Image.new("L", (3 * size, 3 * size), 255)
        ImageDraw.Draw(picture).text((size, size), char, 0, font(size))
        ink = np.asarray(picture) < 128
        ys, xs = np.nonzero(ink)
        shapes[char] = ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    return shapes
