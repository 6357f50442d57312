"""Edits by Pillow: small typed operations, each a function of pictures, its parameters and a seed.

Places are fractions of width and height, 0-1, from the top left. The first picture is the one that is edited; side by
side and grid set the others beside it. Pictures are upright RGB.
"""

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Pictures = Sequence[Image.Image]
MOST_PIXELS = 16_000_000
"""Of a result; it is scaled down to this."""
MOST_STEPS = 4

Fraction = Annotated[float, Field(ge=0, le=1)]


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if box[2] - box[0] < 0.01 or box[3] - box[1] < 0.01:
        raise ValueError("left, top, right, bottom must enclose at least a hundredth of each side")
    return box


Box = Annotated[tuple[Fraction, Fraction, Fraction, Fraction], AfterValidator(_ordered)]
"""Left, top, right, bottom."""


class Step(BaseModel, ABC):
    """One operation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """Make a new picture; those given stay as they are. Raises ValueError when pictures are missing."""


class Crop(Step):
    """Cut out a part and enlarge it."""

    op: Literal["crop"]
    box: Box
    zoom: Annotated[float, Field(ge=1, le=8)] = 1.0

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        part = pictures[0].crop(_pixels(self.box, pictures[0]))
        return part.resize((round(part.width * self.zoom), round(part.height * self.zoom)), Image.Resampling.LANCZOS)


class Rotate(Step):
    """Turn counter-clockwise; the corners become white."""

    op: Literal["rotate"]
    degrees: Annotated[float, Field(ge=-180, le=180)]

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return pictures[0].rotate(self.degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


class Flip(Step):
    """Mirror."""

    op: Literal["flip"]
    axis: Literal["horizontal", "vertical"] = "horizontal"
    """horizontal swaps left and right."""

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return (ImageOps.mirror if self.axis == "horizontal" else ImageOps.flip)(pictures[0])


class Brightness(Step):
    """Darken below 1, brighten above."""

    op: Literal["brightness"]
    factor: Annotated[float, Field(ge=0.2, le=3)]

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return ImageEnhance.Brightness(pictures[0]).enhance(self.factor)


class Contrast(Step):
    """Flatten below 1, sharpen differences above."""

    op: Literal["contrast"]
    factor: Annotated[float, Field(ge=0.2, le=3)]

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return ImageEnhance.Contrast(pictures[0]).enhance(self.factor)


class Noise(Step):
    """Add Gaussian noise to every channel."""

    op: Literal["noise"]
    sigma: Annotated[float, Field(ge=1, le=64)]
    """Of 255."""

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        values = np.asarray(pictures[0], dtype=np.float32)
        noisy = values + rng.standard_normal(values.shape, dtype=np.float32) * self.sigma
        return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


class Blur(Step):
    """Blur as a lens out of focus would."""

    op: Literal["blur"]
    radius: Annotated[float, Field(ge=0.5, le=20)]
    """Pixels."""

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return pictures[0].filter(ImageFilter.GaussianBlur(self.radius))


class Jpeg(Step):
    """Leave the traces of strong compression."""

    op: Literal["jpeg"]
    quality: Annotated[int, Field(ge=5, le=95)]

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        buffer = io.BytesIO()
        pictures[0].save(buffer, "JPEG", quality=self.quality)
        return Image.open(buffer).convert("RGB")


class Redact(Step):
    """Cover parts."""

    op: Literal["redact"]
    boxes: Annotated[tuple[Box, ...], Field(min_length=1, max_length=16)]
    fill: Literal["black", "white", "grey"] = "grey"

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        picture = pictures[0].copy()
        for box in self.boxes:
            picture.paste(self.fill, _pixels(box, picture))
        return picture


class Mark(BaseModel):
    """A label and its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    x: Fraction
    y: Fraction
    text: Annotated[str, Field(min_length=1, max_length=24)]


class Label(Step):
    """Write labels on white plates, so that a question can name places."""

    op: Literal["label"]
    marks: Annotated[tuple[Mark, ...], Field(min_length=1, max_length=16)]

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        picture = pictures[0].copy()
        for mark in self.marks:
            _write(picture, mark.text, mark.x * picture.width, mark.y * picture.height)
        return picture


class SideBySide(Step):
    """Set all pictures in one row of equal height, lettered A, B, ... when asked."""

    op: Literal["side_by_side"]
    lettered: bool = False

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return _arranged(_several(pictures), len(pictures), self.lettered)


class Grid(Step):
    """Set all pictures in rows of `columns`, each in a cell of the first one's size."""

    op: Literal["grid"]
    columns: Annotated[int, Field(ge=1, le=6)] = 2
    lettered: bool = False

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        return _arranged(_several(pictures), self.columns, self.lettered)


class Inset(Step):
    """Show a part enlarged in a corner, framed; the part itself is framed too."""

    op: Literal["inset"]
    box: Box
    corner: Literal["top_left", "top_right", "bottom_left", "bottom_right"] = "bottom_right"
    size: Annotated[float, Field(ge=0.15, le=0.6)] = 0.35
    """Of the longer side of the picture that the longer side of the inset takes."""

    def apply(self, pictures: Pictures, rng: np.random.Generator) -> Image.Image:
        """As `Step.apply`."""
        picture, place = pictures[0].copy(), _pixels(self.box, pictures[0])
        part, side = pictures[0].crop(place), round(self.size * max(picture.size))
        part = ImageOps.expand(ImageOps.contain(part, (side, side), Image.Resampling.LANCZOS), 2, "red")
        ImageDraw.Draw(picture).rectangle(place, outline="red", width=2)
        left = 0 if self.corner.endswith("left") else picture.width - part.width
        picture.paste(part, (left, 0 if self.corner.startswith("top") else picture.height - part.height))
        return picture


Operation = Annotated[
    Crop | Rotate | Flip | Brightness | Contrast | Noise | Blur | Jpeg | Redact | Label | SideBySide | Grid | Inset,
    Field(discriminator="op"),
]


class EditPlan(BaseModel):
    """What an image editor is asked to do: operations one after the other, or an instruction for a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    operations: Annotated[tuple[Operation, ...], Field(max_length=MOST_STEPS)] = ()
    instruction: Annotated[str, Field(max_length=2000)] = ""


def apply(operations: Sequence[Step], pictures: Pictures, seed: int) -> Image.Image:
    """Do the operations in turn, the result of each in the place of the first picture. Raises ValueError."""
    rng = np.random.default_rng(seed)
    first, *others = pictures
    for step in operations:
        first = _capped(step.apply((first, *others), rng))
    return first


def _pixels(box: tuple[float, float, float, float], picture: Image.Image) -> tuple[int, int, int, int]:
    left, top = math.floor(box[0] * picture.width), math.floor(box[1] * picture.height)
    right, bottom = math.ceil(box[2] * picture.width), math.ceil(box[3] * picture.height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _several(pictures: Pictures) -> Pictures:
    if len(pictures) < 2:
        raise ValueError("there is only one picture to arrange")
    return pictures


def _arranged(pictures: Pictures, columns: int, lettered: bool) -> Image.Image:
    """Cells of the first picture's height; of its width too where there are several rows."""
    width, height = pictures[0].size
    gap = max(4, height // 50)
    if columns >= len(pictures):
        cells = [
            p.resize((max(1, round(p.width * height / p.height)), height), Image.Resampling.LANCZOS) for p in pictures
        ]
    else:
        cells = [ImageOps.pad(p, (width, height), Image.Resampling.LANCZOS, "white") for p in pictures]
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    size = max(sum(c.width + gap for c in row) - gap for row in rows), (height + gap) * len(rows) - gap
    sheet = Image.new("RGB", size, "white")
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        left, top = sum(c.width + gap for c in rows[row][:column]), row * (height + gap)
        sheet.paste(cell, (left, top))
        if lettered:
            _write(sheet, chr(ord("A") + number), left, top)
    return sheet


def _write(picture: Image.Image, text: str, x: float, y: float) -> None:
    """Text on a white plate, moved inward where it would leave the picture."""
    font = ImageFont.load_default(size=max(12, min(picture.size) // 20))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x, y = max(0, min(x, picture.width - width)), max(0, min(y, picture.height - height))
    draw.rectangle((x, y, x + width, y + height), fill="white", outline="black")
    draw.text((x + 3 - left, y + 3 - top), text, fill="black", font=font)


def _capped(picture: Image.Image) -> Image.Image:
    share = MOST_PIXELS / (picture.width * picture.height)
    if share >= 1:
        return picture
    side = math.sqrt(share)
    return picture.resize((max(1, int(picture.width * side)), max(1, int(picture.height * side))))
