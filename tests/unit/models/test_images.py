import io
import struct
import warnings
import zlib

import pytest
from PIL import Image

from dpe_ray.errors import PoolError
from dpe_ray.models.images import data_uri, decode, from_data_uri, media_type, read_bytes


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_allowed_formats_decode_to_rgb(form):
    image = decode(encoded(Image.new("RGB", (8, 6), "blue"), form))
    assert (image.mode, image.size) == ("RGB", (8, 6))


@pytest.mark.parametrize("size", [(30_000, 30_000), (100_000, 100_000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_by_its_header_without_a_warning(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PoolError):
            decode(png_header(*size))


def test_a_strip_that_a_processor_would_blow_up_is_refused():
    with pytest.raises(PoolError, match="1 x 301 is a strip of more than 300 to 1"):
        decode(encoded(Image.new("RGB", (1, 301))))
    assert decode(encoded(Image.new("RGB", (300, 1)))).size == (300, 1)


def test_the_pixel_cap_is_the_callers():
    with pytest.raises(PoolError, match="64 x 64 pixels are more than 100"):
        decode(encoded(Image.new("RGB", (64, 64))), max_pixels=100)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_truncated_file_is_refused(form):
    noisy = Image.effect_noise((64, 64), 90).convert("RGB")
    data = encoded(noisy, form)
    for length in (0, 1, 12, 40, len(data) // 2):
        with pytest.raises(PoolError):
            decode(data[:length])


@pytest.mark.parametrize("data", [b"just text, named .png", b"<svg xmlns='x'/>", b"%PDF-1.4", b"\x00" * 500, b""])
def test_what_is_no_allowed_picture_is_refused(data):
    with pytest.raises(PoolError):
        decode(data)


def test_other_formats_are_refused_though_pillow_reads_them():
    with pytest.raises(PoolError):
        decode(encoded(Image.new("RGB", (8, 8)), "TIFF"))


def test_the_content_decides_the_media_type():
    assert media_type(encoded(Image.new("RGB", (8, 8)), "JPEG")) == "image/jpeg"


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


def test_transparent_places_become_white_and_16_bit_keeps_its_tones():
    assert decode(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    grey = Image.new("I;16", (2, 2), 32896)
    assert decode(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_the_first_frame_of_a_gif_is_taken():
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((0, 0)) == (255, 0, 0)


def test_a_data_uri_round_trips():
    assert from_data_uri(data_uri(b"\x00\xff", "image/png")) == b"\x00\xff"


@pytest.mark.parametrize("text", ["https://host/a.png", "data:image/png,abc", "data:image/png;base64,@@@", ""])
def test_other_uris_are_refused(text):
    with pytest.raises(PoolError):
        from_data_uri(text)


def test_bytes_are_read_from_paths_and_urls(tmp_path):
    (tmp_path / "a b#?*.png").write_bytes(b"x")
    (tmp_path / "c.png").write_bytes(b"y")
    assert read_bytes(str(tmp_path / "a b#?*.png")) == b"x"
    assert read_bytes(f"file://{tmp_path}/c.png") == b"y"
    with pytest.raises(PoolError, match="cannot be read"):
        read_bytes(str(tmp_path / "none.png"))


def test_what_is_said_of_unknown_bytes_is_the_same_in_every_run():
    told = []
    for _ in range(2):
        with pytest.raises(PoolError) as caught:
            decode(b"no picture")
        told.append(str(caught.value))
    assert told == ["image: is no readable PNG, JPEG, WEBP, GIF, BMP (its bytes are of no known format)"] * 2
