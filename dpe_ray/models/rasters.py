"""Strangers' bytes made into plain pictures, or refused with a reason that can be counted.

What passes is upright 8-bit RGB, encoded anew: metadata, further frames and whatever else the file carried stay behind.
Animated pictures are refused, since the question would be about one frame and nobody knows which.
"""

import io
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image

from dpe_ray.errors import PoolError
from dpe_ray.models.images import DECODE_ERRORS, FORMATS, MAX_BYTES, MAX_PIXELS, decode, open_header

MIN_SIDE = 16
"""Pixels; smaller ones are tracking pixels and bullets."""
QUALITY = 95
"""Of JPEG, with full colour resolution, for what came with loss."""

_SIGNS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"WEBPVP8", 8, "WEBP"),
    (b"GIF87a", 0, "GIF"),
    (b"GIF89a", 0, "GIF"),
    (b"BM", 0, "BMP"),
)
"""First bytes, their place, the format."""
_DECLARED = {
    "image/png": "PNG",
    "image/x-png": "PNG",
    "image/apng": "PNG",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/pjpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/x-bmp": "BMP",
    "image/x-ms-bmp": "BMP",
}
_UNSAID = ("", "application/octet-stream", "binary/octet-stream")
"""Media types of servers that do not look."""


class Refusal(StrEnum):
    """Why an image from outside was not taken: counted by these words."""

    SCHEME = "scheme"
    """Neither http nor https, or from https back to http."""
    URL = "url"
    """Not to be read as a URL, or with a user name in it."""
    ADDRESS = "address"
    """Leads to a place that is not public."""
    REDIRECTS = "redirects"
    """Too many, or one without a target."""
    UNREACHABLE = "unreachable"
    """No name, no connection, no answer in time, or an HTTP status that is no success."""
    SIZE = "size"
    """More bytes than allowed."""
    ENCODING = "encoding"
    """Compressed in transit, though that was not asked for."""
    MEDIA_TYPE = "media_type"
    """The bytes are not what the server said."""
    FORMAT = "format"
    """None of the raster formats that are taken."""
    PIXELS = "pixels"
    """Too many, or too few a side."""
    ANIMATED = "animated"
    """Has several frames."""
    BROKEN = "broken"
    """Cannot be decoded to its end."""


class RefusedImage(PoolError):
    """`RefusedImage(Refusal, detail)`; the detail is one sentence for a person."""

    @property
    def refusal(self) -> Refusal:
        """The word to count."""
        return Refusal(self.args[0])

    def __str__(self) -> str:
        return f"image refused, {self.args[0]}: {self.args[1]}"


@dataclass(frozen=True)
class Caps:
    """How large an image may be."""

    max_bytes: int = MAX_BYTES
    """As it comes."""
    max_pixels: int = MAX_PIXELS
    """Width x height; checked on the header, before anything is decoded."""


def plain_picture(data: bytes, declared: str = "", caps: Caps = Caps()) -> bytes:
    """Give the picture as a plain JPEG or PNG, from bytes and the media type that was declared for them.

    CMYK, palette, grey and 16-bit pictures become 8-bit RGB, EXIF orientation is applied, transparent places become
    white. Raises RefusedImage.
    """
    if len(data) > caps.max_bytes:
        raise RefusedImage(Refusal.SIZE, f"{len(data)} bytes are more than {caps.max_bytes}")
    kind = _sniffed(data)
    _check_declared(kind, declared)
    _check_header(data, kind, caps)
    try:
        picture = decode(data, caps.max_pixels)
    except PoolError as error:
        raise RefusedImage(Refusal.BROKEN, str(error)) from error
    picture.info.clear()  # comments and colour profiles would be written again
    buffer = io.BytesIO()
    if kind in ("JPEG", "WEBP"):
        picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def _sniffed(data: bytes) -> str:
    for sign, place, kind in _SIGNS:
        if data.startswith(sign, place):
            return kind
    raise RefusedImage(Refusal.FORMAT, f"begins with {data[:12]!r}; taken are {', '.join(FORMATS)}")


def _check_declared(kind: str, declared: str) -> None:
    media_type = declared.partition(";")[0].strip().lower()
    if media_type not in _UNSAID and _DECLARED.get(media_type) != kind:
        raise RefusedImage(Refusal.MEDIA_TYPE, f"declared as {media_type[:60]!r}, but is {kind}")


def _check_header(data: bytes, kind: str, caps: Caps) -> None:
    try:
        image = open_header(data, (kind,))
        frames = getattr(image, "is_animated", False) and image.format != "MPO"  # a JPEG with a second view of a camera
    except Image.DecompressionBombError as error:
        raise RefusedImage(Refusal.PIXELS, str(error)) from error
    except DECODE_ERRORS as error:
        raise RefusedImage(Refusal.BROKEN, f"no readable {kind} ({' '.join(str(error).split())[:200]})") from error
    width, height = image.size
    if width * height > caps.max_pixels or min(width, height) < MIN_SIDE:
        raise RefusedImage(Refusal.PIXELS, f"{width} x {height}; at most {caps.max_pixels}, {MIN_SIDE} a side")
    if frames:
        raise RefusedImage(Refusal.ANIMATED, f"a {kind} of several frames")
