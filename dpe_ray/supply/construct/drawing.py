"""What programs draw with: Pillow for plain pictures, matplotlib for charts and formulas; equal calls, equal pixels.

Only fonts that ship with matplotlib are used, and its settings are the defaults whatever the machine's own say.
Neither library promises to be safe among threads: callers take turns with `TURN`.
"""

import io
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from dpe_ray.supply.construct.task import Undrawable

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "blue": (40, 90, 220),
    "green": (40, 160, 60),
    "orange": (245, 140, 20),
    "purple": (130, 60, 180),
    "yellow": (250, 215, 40),
    "brown": (125, 75, 40),
    "pink": (245, 130, 190),
}
"""By the names that questions use."""
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
GREY: Colour = (120, 120, 120)

FONT_FILE = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
SMALLEST_TEXT = 11
"""Pixels."""
DPI = 100
TURN = threading.Lock()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, `size` pixels high, without the shaping that only some machines have."""
    return ImageFont.truetype(FONT_FILE, size, layout_engine=ImageFont.Layout.BASIC)


def blank(width: int, height: int, colour: Colour = WHITE) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Make an empty picture and what draws on it, without anti-aliasing of lines, so that colours stay exact."""
    picture = Image.new("RGB", (width, height), colour)
    return picture, ImageDraw.Draw(picture)


def write(
    draw: ImageDraw.ImageDraw,
    at: Point,
    text: str,
    size: int = 16,
    room: float = 1e9,
    anchor: str = "mm",
    **style: Colour,
) -> None:
    """Write one line, smaller where `room` pixels are too narrow. Raises Undrawable when it gets too small to read."""
    while draw.textlength(text, font(size)) > room:
        size -= 1
        if size < SMALLEST_TEXT:
            raise Undrawable(f"{text!r} does not fit into {room:.0f} pixels")
    draw.text(at, text, style.get("fill", BLACK), font(size), anchor)


def plot(width: int, height: int, paint: Callable[[Figure], None]) -> Image.Image:
    """Paint a matplotlib figure of so many pixels."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy(), "RGB")  # type: ignore[no-untyped-call]


def share(colour: Colour) -> tuple[float, float, float]:
    """The colour as matplotlib takes it, 0-1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def as_png(picture: Image.Image) -> bytes:
    """Encode without loss and without metadata."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
