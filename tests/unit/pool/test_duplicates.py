import io
from pathlib import Path

import pytest
from builders import make_png
from PIL import Image, ImageFilter

from dpe_ray.errors import StoreError
from dpe_ray.pool.duplicates import SeenImages
from dpe_ray.pool.images import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def seen_in(store: ImageStore) -> SeenImages:
    return SeenImages(lambda sha256: str(store.folder / sha256))


def changed(data: bytes, how: str) -> bytes:
    picture, buffer = Image.open(io.BytesIO(data)), io.BytesIO()
    if how == "scaled":
        picture = picture.resize((200, 200))
    elif how == "blurred":
        picture = picture.filter(ImageFilter.GaussianBlur(1))
    picture.save(buffer, "JPEG" if how == "compressed" else "PNG", **({"quality": 60} if how == "compressed" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("how", ["scaled", "blurred", "compressed"])
def test_a_changed_copy_is_the_same_picture(store: ImageStore, how: str) -> None:
    seen = seen_in(store)
    seen.add(store.put(make_png(1, size=128)), 0)
    reason = seen.why_same(store.put(changed(make_png(1, size=128), how)))
    assert reason
    assert "near duplicate" in reason
    assert seen.why_same(store.put(make_png(1, size=128))) == "the same bytes were drawn before"


def test_different_pictures_are_different_even_with_equal_hashes(store: ImageStore) -> None:
    seen = seen_in(store)
    plain = [store.put(_flat(tone)) for tone in (60, 120, 250)]
    assert len({image.phash for image in plain}) == 1
    for row, image in enumerate(plain):
        assert seen.why_same(image) is None
        seen.add(image, row)
    for i in range(60):
        assert seen.why_same(store.put(make_png(i))) is None


def test_what_was_seen_up_to_a_row_is_stored_and_goes_on(store: ImageStore, tmp_path: Path) -> None:
    seen = seen_in(store)
    images = [store.put(make_png(i)) for i in range(5)]
    for row, image in enumerate(images):
        seen.add(image, 2 * row)
    seen.save(tmp_path / "seen.npz", rows=5)
    again = SeenImages.load(tmp_path / "seen.npz", lambda sha256: str(store.folder / sha256))
    assert len(again) == 3
    assert [bool(again.why_same(image)) for image in images] == [True] * 3 + [False] * 2
    for row in range(2000):
        again.add(images[4], row)
    assert again.why_same(images[4])


def test_an_empty_or_broken_file_is_told(store: ImageStore, tmp_path: Path) -> None:
    seen_in(store).save(tmp_path / "seen.npz", rows=0)
    again = SeenImages.load(tmp_path / "seen.npz", str)
    again.add(store.put(make_png()), 0)
    assert len(again) == 1
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(StoreError, match=r"bad\.npz"):
        SeenImages.load(tmp_path / "bad.npz", str)


def _flat(tone: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (tone,) * 3).save(buffer, "PNG")
    return buffer.getvalue()
