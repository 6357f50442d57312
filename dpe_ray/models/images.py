"""Encoded images in and out: read from anywhere, decoded with suspicion, carried as data URIs."""

import base64
import binascii
import errno
import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from dpe_ray.errors import PoolError, PoolUnreachable
from dpe_ray.types import ImageRef

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What may be decoded; of a GIF the first frame. The content decides, never a name or a stated media type."""
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 50_000_000
MAX_ASPECT = 300
"""Longer side by the shorter: a processor that scales the shorter to 336 makes 100 million pixels of such a strip."""

DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    KeyError,
    IndexError,
    TypeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow's readers raise on hostile bytes."""
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, ValueError)
"""What a wrong name raises; all else a store that does not answer may raise of a right one."""
_filters = threading.Lock()
"""Warning filters belong to the process: two decoding threads must not restore each other's."""


def read_bytes(image: ImageRef | str) -> bytes:
    """Fetch the stored bytes of an image, from a path or any fsspec URL.

    Raises PoolError when there is none at that place, PoolUnreachable when the place cannot be asked. Of a file of more
    than `MAX_BYTES` one byte more than these, which `decode` refuses.
    """
    uri = image.uri if isinstance(image, ImageRef) else image
    try:
        if "://" not in uri:
            with Path(uri).open("rb") as file:
                return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)
        import fsspec

        with fsspec.open(uri, "rb") as remote:
            return bytes(remote.read(MAX_BYTES + 1))
    except (OSError, ValueError, ImportError) as error:
        is_named_wrongly = isinstance(error, _NOT_THERE) or getattr(error, "errno", None) == errno.ENAMETOOLONG
        kind = PoolError if is_named_wrongly else PoolUnreachable
        raise kind(f"image {uri}: cannot be read ({error}); check that every node reaches this place") from error


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Make an upright RGB picture; transparent places become white. Raises PoolError.

    Bytes and pixels are capped before anything is decoded, so the header of a bomb costs nothing.
    """
    if len(data) > MAX_BYTES:
        raise PoolError(f"image: {len(data)} bytes are more than {MAX_BYTES}; store a smaller file")
    try:
        image = open_header(data)
        if image.width * image.height > max_pixels:
            raise PoolError(f"image: {image.width} x {image.height} pixels are more than {max_pixels}; scale it down")
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise PoolError(f"image: {image.width} x {image.height} is a strip of more than {MAX_ASPECT} to 1; crop it")
        image.load()
        return _rgb(ImageOps.exif_transpose(image))
    except PoolError:
        raise
    except DECODE_ERRORS as error:
        # Pillow's own words for bytes it knows no format of hold an address, which would be another one in every run
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "its bytes are of no known format" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise PoolError(f"image: is no readable {', '.join(FORMATS)} ({reason})") from error


def media_type(data: bytes) -> str:
    """`image/png` and so on, from the content. Raises PoolError for anything but `FORMATS`."""
    try:
        kind = open_header(data).format or ""
        return str(Image.MIME["JPEG" if kind == "MPO" else kind])  # a JPEG that holds a camera's second view
    except DECODE_ERRORS as error:
        raise PoolError(f"image: is no readable {', '.join(FORMATS)}") from error


def data_uri(data: bytes, media_type: str) -> str:
    """`data:image/png;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def from_data_uri(text: str) -> bytes:
    """Take the bytes out of a base64 data URI. Raises PoolError."""
    head, comma, body = text.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise PoolError("image: is no data URI; send data:image/...;base64,...")
    if len(body) > MAX_BYTES * 4 // 3 + 4:
        raise PoolError(f"image: more than {MAX_BYTES} bytes; send a smaller picture")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PoolError(f"image: the data URI is no base64 ({error})") from error


def open_header(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Size and format of an image, nothing decoded yet. Raises one of `DECODE_ERRORS`."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=formats)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bit: a plain conversion would clip all but the darkest tones
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
