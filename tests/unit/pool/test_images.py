import hashlib
from pathlib import Path

import pytest
from builders import make_png

from dpe_ray.errors import PoolError, StoreError
from dpe_ray.pool.images import ImageStore


def test_an_image_lies_once_under_its_hash_and_says_what_it_is(tmp_path: Path) -> None:
    store, data = ImageStore(tmp_path / "images"), make_png(1)
    first, second = store.put(data), store.put(data)
    assert first == second
    assert first.sha256 == hashlib.sha256(data).hexdigest()
    assert Path(first.uri).read_bytes() == data
    assert (first.width, first.height, first.media_type, len(first.phash)) == (64, 64, "image/png", 16)
    assert [p.name for p in (tmp_path / "images").iterdir()] == [first.sha256]


@pytest.mark.parametrize("data", [b"", b"<html>", make_png()[:60], b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_image_is_never_stored(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PoolError):
        ImageStore(tmp_path).put(data)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        ImageStore(tmp_path / "file" / "images").put(make_png())
