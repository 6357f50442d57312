"""Images and addresses that mean harm, or merely differ, each with the reason that must refuse it.

`refused` is the word of `Refusal`, empty where the image is taken; then `check` looks at the picture that came out.
"""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

Check = Callable[[Image.Image], bool]
PAYLOAD = b"PK-payload-<script>alert(1)</script>"


@dataclass(frozen=True)
class HostileImage:
    """What a server sends."""

    name: str
    body: bytes
    refused: str = ""
    check: Check = lambda picture: picture.mode == "RGB"
    declared: str = ""
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    stated_length: int | None = None


@dataclass(frozen=True)
class HostileAddress:
    """What is asked for; `resolved` is what its name resolves to."""

    url: str
    refused: str
    resolved: tuple[str, ...] = field(default=())


def encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width: int = 48, height: int = 32) -> Image.Image:
    """Red, with a blue corner at the top left."""
    picture = Image.new("RGB", (width, height), (200, 0, 0))
    picture.paste((0, 0, 200), (0, 0, width // 2, height // 2))
    return picture


def blue_at(x: int, y: int, size: tuple[int, int]) -> Check:
    return lambda picture: picture.size == size and near(picture.getpixel((x, y)), (0, 0, 200))


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(one, other, strict=True))


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(scene(), "JPEG", exif=exif.tobytes())


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, idat: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels and whose body is a run of zeros."""
    return png(side, side, zlib.compress(b"\0" * 100_000))


def zip_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("payload", data)
    return buffer.getvalue()


def grey16() -> bytes:
    tones = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    return encode(Image.fromarray(tones), "PNG")


def frames(count: int = 2) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (80 * i, 10, 10)) for i in range(count)]


def animated(kind: str) -> bytes:
    first, *rest = frames()
    return encode(first, kind, save_all=True, append_images=rest)


def transparent() -> Image.Image:
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    picture.paste((0, 0, 200, 255), (0, 0, 16, 16))
    return picture


def text_bomb() -> bytes:
    packed = zlib.compress(b"\0" * 8_000_000)
    rows = zlib.compress((b"\0" + b"\0" * 96) * 32)
    return png(32, 32, rows, chunk(b"zTXt", b"Comment\0\0" + packed))


def webp_of_size(side: int) -> bytes:
    """A VP8X header that promises side x side pixels."""
    size = struct.pack("<I", side - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PNG, JPEG = encode(scene(), "PNG"), encode(scene(), "JPEG", quality=95)
WEBP, GIF, BMP = encode(scene(), "WEBP", quality=95), encode(scene(), "GIF"), encode(scene(), "BMP")
BLUE = blue_at(4, 4, (48, 32))

IMAGES = (
    HostileImage("png", PNG, check=BLUE, declared="image/png"),
    HostileImage("jpeg", JPEG, check=BLUE, declared="image/jpeg; charset=binary"),
    HostileImage("webp", WEBP, check=BLUE, declared="IMAGE/WEBP"),
    HostileImage("gif of one frame", GIF, check=BLUE, declared="image/gif"),
    HostileImage("bmp", BMP, check=BLUE, declared="image/x-ms-bmp"),
    HostileImage("server that does not look", PNG, check=BLUE, declared="application/octet-stream"),
    HostileImage("png declared as jpeg", PNG, "media_type", declared="image/jpeg"),
    HostileImage("png declared as html", PNG, "media_type", declared="text/html"),
    HostileImage("jpeg declared as svg", JPEG, "media_type", declared="image/svg+xml"),
    HostileImage("html declared as png", b"<!doctype html><p>not found", "format", declared="image/png"),
    HostileImage("svg with a script", SVG, "format", declared="image/svg+xml"),
    HostileImage("svg declared as png", SVG, "format", declared="image/png"),
    HostileImage("svg packed with gzip", gzip.compress(SVG), "format"),
    HostileImage("pdf with a picture", b"%PDF-1.7\n" + JPEG, "format"),
    HostileImage("zip with a picture behind it", zip_of(PAYLOAD) + PNG, "format"),
    HostileImage("tiff", encode(scene(), "TIFF"), "format"),
    HostileImage("ico", encode(scene(32, 32), "ICO"), "format"),
    HostileImage("avif", encode(scene(), "AVIF"), "format"),
    HostileImage("jpeg 2000", encode(scene(), "JPEG2000"), "format"),
    HostileImage("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format"),
    HostileImage("script of a shell", b"#!/bin/sh\nrm -rf /\n", "format"),
    HostileImage("empty body", b"", "format"),
    HostileImage("magic bytes alone", b"\x89PNG\r\n\x1a\n", "broken"),
    HostileImage("png and zip in one file", PNG + zip_of(PAYLOAD), check=BLUE),
    HostileImage("jpeg with html behind it", JPEG + PAYLOAD, check=BLUE),
    HostileImage("jpeg with a script in a comment", encode(scene(), "JPEG", comment=PAYLOAD), check=BLUE),
    HostileImage("gif that is also a script", GIF + b";/*" + PAYLOAD, check=BLUE),
    HostileImage("truncated png", PNG[: len(PNG) // 2], "broken"),
    HostileImage("truncated jpeg", encode(scene(640, 480), "JPEG")[:2000], "broken"),
    HostileImage("truncated webp", WEBP[: len(WEBP) // 2], "broken"),
    HostileImage("truncated gif", encode(scene(200, 200).quantize(), "GIF")[:60], "broken"),
    HostileImage("png with a wrong checksum", PNG[:29] + b"\0\0\0\0" + PNG[33:], "broken"),
    HostileImage("png with rows of noise", png(64, 64, b"no zlib stream"), "broken"),
    HostileImage("png of no width", png(0, 64, zlib.compress(b"")), "broken"),
    HostileImage("jpeg without a frame header", b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9", "broken"),
    HostileImage("bmp with a header of nonsense", b"BM" + b"\xff" * 60, "broken"),
    HostileImage("png bomb of 100 million pixels", bomb(10_000), "pixels"),
    HostileImage("png bomb of 4 billion pixels", bomb(65_000), "pixels"),
    HostileImage("png bomb of one row", png(2_000_000_000, 16, zlib.compress(b"\0" * 1000)), "pixels"),
    HostileImage("webp that promises 250 million pixels", webp_of_size(16_000), "pixels"),
    HostileImage("text bomb in a small png", text_bomb(), "broken"),
    HostileImage("tracking pixel", encode(scene(1, 1), "GIF"), "pixels"),
    HostileImage("line of a pixel", encode(scene(400, 1), "PNG"), "pixels"),
    HostileImage("animated gif", animated("GIF"), "animated"),
    HostileImage("animated png", animated("PNG"), "animated"),
    HostileImage("animated webp", animated("WEBP"), "animated"),
    HostileImage(
        "camera file of two views", encode(scene(), "MPO", save_all=True, append_images=[scene()]), check=BLUE
    ),
    HostileImage("cmyk jpeg", encode(scene().convert("CMYK"), "JPEG", quality=95), check=BLUE),
    HostileImage("grey jpeg", encode(scene().convert("L"), "JPEG")),
    HostileImage("grey png of 16 bit", grey16(), check=lambda p: 110 < float(np.asarray(p).mean()) < 145),
    HostileImage(
        "colour png of 16 bit",
        png(16, 16, zlib.compress((b"\0" + b"\xc8\0\0\0\0\0" * 16) * 16), depth=16),
        check=lambda p: near(p.getpixel((8, 8)), (200, 0, 0)),
    ),
    HostileImage("palette png", encode(scene().quantize(8), "PNG"), check=BLUE),
    HostileImage("bilevel png", encode(scene().convert("1"), "PNG")),
    HostileImage("transparent png", encode(transparent(), "PNG"), check=lambda p: p.getpixel((31, 31)) == (255,) * 3),
    HostileImage(
        "palette png with a transparent colour",
        encode(scene().quantize(8), "PNG", transparency=0),
        check=lambda p: (255, 255, 255) in {colour for _, colour in p.getcolors()},
    ),
    HostileImage("orientation 2, mirrored", rotated(2), check=blue_at(44, 4, (48, 32))),
    HostileImage("orientation 3, upside down", rotated(3), check=blue_at(44, 28, (48, 32))),
    HostileImage("orientation 4, flipped", rotated(4), check=blue_at(4, 28, (48, 32))),
    HostileImage("orientation 5, transposed", rotated(5), check=blue_at(4, 4, (32, 48))),
    HostileImage("orientation 6, quarter turn", rotated(6), check=blue_at(28, 4, (32, 48))),
    HostileImage("orientation 7, transversed", rotated(7), check=blue_at(28, 44, (32, 48))),
    HostileImage("orientation 8, other quarter turn", rotated(8), check=blue_at(4, 44, (32, 48))),
    HostileImage("orientation that does not exist", rotated(99), check=BLUE),
    HostileImage("more bytes than allowed", PNG + b"\0" * 300_000, "size"),
    HostileImage("more bytes stated than allowed", PNG, "size", stated_length=10**12),
    HostileImage("fewer bytes than stated", PNG, "unreachable", stated_length=len(PNG) + 10),
    HostileImage("packed in transit", gzip.compress(b"\0" * 100_000), "encoding", headers=("Content-Encoding: gzip",)),
    HostileImage("not found", PNG, "unreachable", status="404 Not Found"),
    HostileImage("partial content", PNG[:20], "unreachable", status="206 Partial Content"),
    HostileImage("redirect without a target", b"", "redirects", status="302 Found"),
    HostileImage("redirect to a file", b"", "scheme", status="302 Found", headers=("Location: file:///etc/passwd",)),
    HostileImage("redirect to gopher", b"", "scheme", status="301 Moved", headers=("Location: gopher://host/",)),
    HostileImage("redirect to loopback", b"", "address", status="302 Found", headers=("Location: http://127.0.0.2/",)),
    HostileImage(
        "redirect to metadata", b"", "address", status="307 T", headers=("Location: http://169.254.169.254/",)
    ),
    HostileImage("redirect to a private host", b"", "address", status="303 S", headers=("Location: //10.0.0.1/a.png",)),
    HostileImage("redirect to IPv6 loopback", b"", "address", status="308 P", headers=("Location: http://[::1]/",)),
    HostileImage("redirect to itself", b"", "redirects", status="302 Found", headers=("Location: /image",)),
    HostileImage("redirect with a user name", b"", "url", status="302 Found", headers=("Location: http://a:b@c.org/",)),
)

ADDRESSES = (
    HostileAddress("file:///etc/passwd", "scheme"),
    HostileAddress("ftp://example.org/a.png", "scheme"),
    HostileAddress("data:image/png;base64,AAAA", "scheme"),
    HostileAddress("javascript:alert(1)", "scheme"),
    HostileAddress("//example.org/a.png", "scheme"),
    HostileAddress("/etc/passwd", "scheme"),
    HostileAddress("", "scheme"),
    HostileAddress("http:///etc/passwd", "url"),
    HostileAddress("http://user:secret@example.org/a.png", "url"),
    HostileAddress("http://example.org\r\nHost: 10.0.0.1/", "url"),
    HostileAddress("http://example.org:0/a.png", "url"),
    HostileAddress("http://example.org:99999/a.png", "url"),
    HostileAddress("http://[::1/a.png", "url"),
    HostileAddress("http://127.0.0.2/a.png", "address"),
    HostileAddress("http://127.2/a.png", "address"),
    HostileAddress("http://2130706434/a.png", "address"),
    HostileAddress("http://0x7f000002/a.png", "address"),
    HostileAddress("http://0177.0.0.2/a.png", "url"),
    HostileAddress("http://0.0.0.0/a.png", "address"),
    HostileAddress("http://[::]/a.png", "address"),
    HostileAddress("http://[::1]/a.png", "address"),
    HostileAddress("http://[::ffff:10.0.0.1]/a.png", "address"),
    HostileAddress("http://[::ffff:7f00:2]/a.png", "address"),
    HostileAddress("http://[2002:7f00:1::]/a.png", "address"),
    HostileAddress("http://[64:ff9b::a00:1]/a.png", "address"),
    HostileAddress("http://[fe80::1]/a.png", "address"),
    HostileAddress("http://[fc00::1]/a.png", "address"),
    HostileAddress("http://[fec0::1]/a.png", "address"),
    HostileAddress("http://[ff02::1]/a.png", "address"),
    HostileAddress("http://10.0.0.1/a.png", "address"),
    HostileAddress("http://172.16.0.1/a.png", "address"),
    HostileAddress("http://192.168.1.1/a.png", "address"),
    HostileAddress("http://169.254.169.254/latest/meta-data/", "address"),
    HostileAddress("http://100.64.0.1/a.png", "address"),
    HostileAddress("http://224.0.0.1/a.png", "address"),
    HostileAddress("http://240.0.0.1/a.png", "address"),
    HostileAddress("http://255.255.255.255/a.png", "address"),
    HostileAddress("https://named.example/a.png", "address", ("10.1.2.3",)),
    HostileAddress("https://named.example/a.png", "address", ("93.184.216.34", "192.168.0.1")),
    HostileAddress("https://named.example/a.png", "address", ("fd00::1",)),
    HostileAddress("https://nobody.example/a.png", "unreachable"),
)
