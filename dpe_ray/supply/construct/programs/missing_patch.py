"""A square cut out of a pool image, and which of four patches fills the hole. Checked by comparing pixels."""

from random import Random
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, blank, write
from dpe_ray.supply.construct.program import Params, Program, scaled
from dpe_ray.supply.construct.programs.sticker_count import fitted
from dpe_ray.supply.construct.task import Shown, Task, Undrawable, Unsettled
from dpe_ray.types import AnswerKind

PATCHES, GAP, STRIP = 4, 24, 40
"""Patches below the image; pixels between them, and for their numbers."""
HOLE, PLATE, FRAME = (255, 0, 255), (250, 250, 250), (1, 2, 3)
DIFFERENT = 14.0
"""Mean absolute difference, of 255, from which two patches are told apart by eye."""


class MissingPatchParams(Params):
    """Where the hole is, in hundredths of the image."""

    ask: Literal["find_missing_patch"]
    size: Annotated[int, Field(ge=64, le=128)] = 96
    """Pixels across; smaller ones are harder."""
    x: Annotated[int, Field(ge=0, le=100)] = 50
    """From the left edge (0) to the right (100)."""
    y: Annotated[int, Field(ge=0, le=100)] = 50
    decoys: Literal["elsewhere", "mirrored"] = "elsewhere"
    """Patches from other places, or the same one turned about; the second are harder."""


class MissingPatch(Program[MissingPatchParams]):
    """Crop, remove and paste with a known effect."""

    name = "missing_patch"
    summary = "An image of the pool with a hole, and four numbered patches below of which one fills it."
    categories = ("mixed",)
    params = MissingPatchParams
    on_image = True

    def sample(self, ask: str, difficulty: float, rng: Random) -> MissingPatchParams:
        """As `Program.sample`."""
        return MissingPatchParams(
            ask="find_missing_patch",
            size=scaled(120, 68, difficulty),
            x=rng.randint(0, 100),
            y=rng.randint(0, 100),
            decoys="mirrored" if difficulty > 0.5 else "elsewhere",
        )

    def make(self, params: MissingPatchParams, rng: Random, base: Image.Image | None) -> Task:
        """As `Program.make`. Raises Undrawable when the image has no four patches that differ clearly."""
        picture = fitted(base)
        size = min(params.size, min(picture.size) // 3)
        left, top = (params.x * (picture.width - size) // 100, params.y * (picture.height - size) // 100)
        right = picture.crop((left, top, left + size, top + size))
        if measure.where(np.asarray(picture), HOLE).any():
            raise Undrawable("the image has the colour of the hole")
        patches = _decoys(picture, right, params, rng)
        at = rng.randrange(PATCHES)
        patches.insert(at, right)
        ImageDraw.Draw(picture).rectangle((left, top, left + size - 1, top + size - 1), HOLE)
        numbers = tuple(str(n) for n in range(1, PATCHES + 1) if n != at + 1)
        question = "Which of the numbered patches below the picture fills the hole in it?"
        why = f"Only patch {at + 1} continues what surrounds the hole."
        return Task(_sheet(picture, patches), question, str(at + 1), AnswerKind.NUMBER, why, numbers)

    def check(self, params: MissingPatchParams, shown: Shown) -> str:
        """As `Program.check`: the patch that equals the base image at the place of the hole, and no other."""
        if shown.base is None:
            raise Unsettled("the image without the hole is not there")
        base = np.asarray(fitted(Image.fromarray(shown.base)), dtype=np.int16)
        hole = measure.only(measure.blobs(measure.where(shown.pixels, HOLE)), "the hole")
        size = hole.right - hole.left + 1
        cut = base[hole.top : hole.bottom + 1, hole.left : hole.right + 1]
        below = shown.pixels[len(base) :].astype(np.int16)
        frames = measure.blobs(measure.where(below.astype(np.uint8), FRAME), 4 * size)
        insides = [below[f.top + 2 : f.top + 2 + size, f.left + 2 : f.left + 2 + size] for f in frames]
        unlike = sorted((float(np.abs(inside - cut).mean()), at) for at, inside in enumerate(insides, start=1))
        if len(unlike) != PATCHES or unlike[0][0] > 0 or unlike[1][0] < DIFFERENT:
            raise Unsettled("not exactly one patch fills the hole")
        return str(unlike[0][1])


def _decoys(picture: Image.Image, right: Image.Image, params: MissingPatchParams, rng: Random) -> list[Image.Image]:
    size, found = right.width, [right]
    turns = [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT]
    for attempt in range(60):
        if params.decoys == "mirrored" and attempt < len(turns):
            patch = right.transpose(turns[attempt])
        else:
            x, y = rng.randint(0, picture.width - size), rng.randint(0, picture.height - size)
            patch = picture.crop((x, y, x + size, y + size))
        if all(_unlike(patch, other) >= DIFFERENT for other in found):
            found.append(patch)
        if len(found) == PATCHES:
            return found[1:]
    raise Undrawable("the image has too few places that differ")


def _unlike(one: Image.Image, other: Image.Image) -> float:
    a, b = (np.asarray(patch, dtype=np.int16) for patch in (one, other))
    return float(np.abs(a - b).mean())


def _sheet(picture: Image.Image, patches: list[Image.Image]) -> Image.Image:
    size = patches[0].width
    width = max(picture.width, PATCHES * (size + GAP) + GAP)
    sheet, draw = blank(width, picture.height + size + STRIP + GAP, PLATE)
    sheet.paste(picture, (0, 0))
    for at, patch in enumerate(patches):
        left, top = GAP + at * (size + GAP), picture.height + GAP // 2
        draw.rectangle((left - 2, top - 2, left + size + 1, top + size + 1), FRAME, width=2)
        sheet.paste(patch, (left, top))
        write(draw, (left + size / 2, top + size + 18), str(at + 1), 18, fill=BLACK)
    return sheet
