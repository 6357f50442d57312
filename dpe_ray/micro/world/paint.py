"""Canvas of the micro world: glyphs in 16-pixel cells, with jitter, shades and noise from one seed."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 64
CELL = 16
Colour = tuple[int, int, int]

INK: dict[str, Colour] = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 215),
    "yellow": (235, 205, 40),
    "purple": (150, 50, 170),
}
"""Named colours before shading."""


class Canvas:
    """A 64x64 picture under construction; every random choice comes from `seed`."""

    def __init__(self, seed: int, background: Colour, *, noise: float = 4.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.image = Image.new("RGB", (SIDE, SIDE), self.shade(background, 10))
        self.pen = ImageDraw.Draw(self.image)

    def shade(self, colour: Colour, spread: int = 18) -> Colour:
        """Change the colour by up to `spread` per channel."""
        red, green, blue = (min(max(c + int(self.rng.integers(-spread, spread + 1)), 0), 255) for c in colour)
        return red, green, blue

    def centre(self, cell: str, jitter: int = 1) -> tuple[int, int]:
        """Pixel centre (x, y) of a cell, moved by up to `jitter` pixels."""
        dx, dy = self.rng.integers(-jitter, jitter + 1, 2)
        return "abcd".index(cell[0]) * CELL + 8 + int(dx), "1234".index(cell[1]) * CELL + 8 + int(dy)

    def glyph(self, cell: str, name: str, colour: Colour, jitter: int = 1) -> None:
        """Draw the glyph `name` (a key of `GLYPHS`) into a cell."""
        x, y = self.centre(cell, jitter)
        GLYPHS[name](self.pen, x, y, int(self.rng.integers(5, 7)), self.shade(colour))

    def text(self, cell: str, text: str, colour: Colour) -> None:
        """Print one character into a cell."""
        self.pen.text(self.centre(cell), text, fill=self.shade(colour), font=_font(), anchor="mm")

    def stamp(self, cell: str, grey: NDArray[np.float64], ink: Colour) -> None:
        """Blend ink into a cell; `grey` is a 16x16 array of opacities 0-1."""
        x, y = "abcd".index(cell[0]) * CELL, "1234".index(cell[1]) * CELL
        box = (x, y, x + CELL, y + CELL)
        mask = Image.fromarray((grey * 255).astype(np.uint8), "L")
        self.image.paste(Image.new("RGB", (CELL, CELL), ink), box, mask)

    def marks(self, num: int, rows: tuple[int, int], strength: int) -> None:
        """Brighten `num` single pixels between two pixel rows by `strength`; meant to drown in the noise."""
        for _ in range(num):
            x, y = int(self.rng.integers(0, SIDE)), int(self.rng.integers(*rows))
            patch = np.asarray(self.image.crop((x, y, x + 1, y + 1))) + strength
            self.image.paste(Image.fromarray(patch.astype(np.uint8), "RGB"), (x, y))

    def finish(self) -> Image.Image:
        """Add a soft slope of light and pixel noise; the picture as RGB."""
        slope_x, slope_y = self.rng.uniform(-12, 12, 2)
        ramp = np.linspace(-1, 1, SIDE)
        light = slope_x * ramp[None, :] + slope_y * ramp[:, None]
        grain = self.rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32) * self.noise
        pixels = np.asarray(self.image, dtype=np.float32) + light[:, :, None] + grain
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=16)


Pen = ImageDraw.ImageDraw
Glyph = Callable[[Pen, int, int, int, Colour], None]


def _circle(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)


def _ring(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=2)


def _dot(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r // 2, y - r // 2, x + r // 2, y + r // 2), fill=ink)


def _square(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.rectangle((x - r, y - r, x + r, y + r), fill=ink)


def _triangle(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=ink)


def _star(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.rectangle((x - r, y - 1, x + r, y + 1), fill=ink)
    pen.rectangle((x - 1, y - r, x + 1, y + r), fill=ink)
    pen.line((x - r + 1, y - r + 1, x + r - 1, y + r - 1), fill=ink, width=1)
    pen.line((x - r + 1, y + r - 1, x + r - 1, y - r + 1), fill=ink, width=1)


def _house(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.polygon([(x, y - r), (x - r, y), (x + r, y)], fill=ink)
    pen.rectangle((x - r + 2, y, x + r - 2, y + r), fill=ink)


def _tower(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.rectangle((x - 2, y - r, x + 2, y + r), fill=ink)
    pen.rectangle((x - 4, y - r, x + 4, y - r + 2), fill=ink)


def _tree(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r + 1, y - r, x + r - 1, y + 2), fill=ink)
    pen.rectangle((x - 1, y + 2, x + 1, y + r), fill=(100, 60, 20))


def _flower(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.line((x, y, x, y + r), fill=(20, 90, 20), width=1)
    for dx, dy in ((-3, -2), (3, -2), (0, -5), (0, 1)):
        pen.rectangle((x + dx - 1, y + dy - 1, x + dx + 1, y + dy + 1), fill=ink)


def _rock(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.polygon([(x - r, y + r), (x - r + 2, y), (x + 2, y - 2), (x + r, y + r)], fill=ink)


def _cloud(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r, y - 1, x + 1, y + 4), fill=ink)
    pen.ellipse((x - 2, y - 4, x + r, y + 4), fill=ink)


def _bird(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.line((x - r, y - 3, x, y + 2), fill=ink, width=2)
    pen.line((x, y + 2, x + r, y - 3), fill=ink, width=2)


def _bridge(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.arc((x - r, y - 3, x + r, y + 9), 180, 360, fill=ink, width=3)
    pen.line((x - r, y - 4, x + r, y - 4), fill=ink, width=2)


def _cup(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.rectangle((x - r, y - 3, x + 2, y + r), fill=ink)
    pen.ellipse((x + 1, y - 2, x + r, y + 4), outline=ink, width=2)


def _book(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.rectangle((x - r, y - r + 1, x + r, y + r - 1), fill=ink)
    pen.line((x, y - r + 1, x, y + r - 1), fill=(255, 255, 255), width=2)


def _key(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r, y - 3, x - r + 6, y + 3), outline=ink, width=2)
    pen.line((x - r + 6, y, x + r, y), fill=ink, width=2)
    pen.line((x + r - 1, y, x + r - 1, y + 4), fill=ink, width=2)


def _lamp(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.polygon([(x - 2, y - r), (x + 2, y - r), (x + r, y), (x - r, y)], fill=ink)
    pen.line((x, y, x, y + r), fill=ink, width=1)
    pen.line((x - 3, y + r, x + 3, y + r), fill=ink, width=1)


def _clock(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r, y - r, x + r, y + r), outline=ink, fill=(250, 250, 250), width=2)
    pen.line((x, y, x, y - 4), fill=ink, width=1)
    pen.line((x, y, x + 3, y), fill=ink, width=1)


def _fish(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.ellipse((x - r, y - 3, x + 3, y + 3), fill=ink)
    pen.polygon([(x + 1, y), (x + r, y - 4), (x + r, y + 4)], fill=ink)


def _bell(pen: Pen, x: int, y: int, r: int, ink: Colour) -> None:
    pen.pieslice((x - r, y - r, x + r, y + r), 180, 360, fill=ink)
    pen.rectangle((x - r, y, x + r, y + 3), fill=ink)
    pen.rectangle((x - 1, y + 4, x + 1, y + 5), fill=ink)


def arrow(pen: Pen, x: int, y: int, direction: str, ink: Colour) -> None:
    """Draw a 12-pixel arrow that points `right`, `left`, `up` or `down`."""
    angle = {"right": 0.0, "down": 0.5, "left": 1.0, "up": 1.5}[direction] * math.pi
    cos, sin = round(math.cos(angle)), round(math.sin(angle))
    pen.line((x - 6 * cos, y - 6 * sin, x + 6 * cos, y + 6 * sin), fill=ink, width=2)
    tips = [(7, 0), (1, -4), (1, 4)]
    pen.polygon([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in tips], fill=ink)


GLYPHS: dict[str, Glyph] = {
    "circle": _circle,
    "ring": _ring,
    "large": _circle,
    "small": _dot,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "house": _house,
    "tower": _tower,
    "tree": _tree,
    "flower": _flower,
    "rock": _rock,
    "cloud": _cloud,
    "bird": _bird,
    "bridge": _bridge,
    "lake": _cloud,
    "cup": _cup,
    "book": _book,
    "key": _key,
    "lamp": _lamp,
    "apple": _circle,
    "clock": _clock,
    "fish": _fish,
    "bell": _bell,
}
"""Glyph by name: draws into a cell around (x, y) with half-width r in pixels."""
