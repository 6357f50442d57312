from itertools import islice
from pathlib import Path

import pytest
from builders import make_png, write_png

from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool
from dpe_ray.rounds.pool_progress import PoolProgress
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import ImageRef, Rejection


@pytest.fixture
def pool(tmp_path: Path) -> ImagePool:
    for i in range(30):
        write_png(tmp_path / f"pool/{i}.png", i)
    return ImagePool(str(tmp_path / "pool"), ImageStore(tmp_path / "run/images"))


def progress(pool: ImagePool, tmp_path: Path) -> PoolProgress:
    """As a fresh process would."""
    return PoolProgress(lambda: pool, RunFolder(tmp_path / "run"), seed=1)


def given(progress: PoolProgress, index: int, count: int) -> list[str]:
    return [image.sha256 for image in islice(progress.begin(index), count) if isinstance(image, ImageRef)]


def test_no_round_is_given_what_another_used_up(pool: ImagePool, tmp_path: Path) -> None:
    first = progress(pool, tmp_path)
    used = given(first, 1, 12)[:10]
    first.end(1, 10)
    later = progress(pool, tmp_path)
    used += given(later, 2, 8)
    later.end(2, 8)
    assert len(set(used)) == 18
    used += given(progress(pool, tmp_path), 3, 12)
    assert len(set(used)) == 30


def test_a_round_that_is_run_again_or_drew_nothing_begins_at_the_same_place(pool: ImagePool, tmp_path: Path) -> None:
    first = progress(pool, tmp_path)
    given(first, 1, 5)
    first.end(1, 5)
    killed = given(progress(pool, tmp_path), 2, 7)
    assert given(progress(pool, tmp_path), 2, 7) == killed
    progress(pool, tmp_path).end(2, 0)
    assert given(progress(pool, tmp_path), 3, 7) == killed


def test_a_copy_of_what_an_earlier_round_drew_is_a_duplicate(pool: ImagePool, tmp_path: Path) -> None:
    first = progress(pool, tmp_path)
    used = given(first, 1, 10)
    first.end(1, 10)
    for i in range(30):
        (tmp_path / f"pool/copy{i}.png").write_bytes(make_png(i))
    grown = ImagePool(str(tmp_path / "pool"), ImageStore(tmp_path / "run/images"))
    later = progress(grown, tmp_path).begin(2)
    drawn = list(islice(later, 20))
    assert later.behind(20).lap == 0
    assert not {image.sha256 for image in drawn if isinstance(image, ImageRef)} & set(used)
    assert any(isinstance(image, Rejection) and image.gate == "duplicate" for image in drawn)
