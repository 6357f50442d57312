import tracemalloc
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_png, write_png

from dpe_ray.errors import PoolError
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool
from dpe_ray.types import ImageRef, Rejection


def pool_of(tmp_path: Path, count: int) -> ImagePool:
    for i in range(count):
        write_png(tmp_path / f"pool/{i:03}.png", i)
    return ImagePool(str(tmp_path / "pool"), ImageStore(tmp_path / "images"))


def shas(results: object) -> list[str]:
    return [r.sha256 for r in results if isinstance(r, ImageRef)]  # type: ignore[attr-defined]


def test_a_draw_is_shuffled_by_seed_and_repeats_exactly(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 40)
    first = shas(islice(pool.draw(seed=1), 40))
    assert first == shas(islice(pool.draw(seed=1), 40))
    assert first != shas(islice(pool.draw(seed=2), 40))
    assert sorted(first) == sorted(shas(islice(pool.draw(seed=2), 40)))


def test_the_cursor_goes_on_where_the_last_draw_stopped(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 40)
    whole = list(islice(pool.read(seed=1), 100))
    for at in (0, 15, 39, 40, 41, 80):
        again = list(islice(pool.read(seed=1, cursor=whole[at].cursor), 100 - at - 1))
        assert [drawn.cursor for drawn in again] == [drawn.cursor for drawn in whole[at + 1 :]]
        assert shas(d.image for d in again) == shas(d.image for d in whole[at + 1 :])
    draw = pool.draw(seed=1, cursor=whole[9].cursor)
    assert shas(islice(draw, 25)) == shas(d.image for d in whole[10:35])
    assert [draw.behind(n) for n in (0, 1, 25)] == [whole[at].cursor for at in (9, 10, 34)]


def test_an_image_of_an_earlier_round_is_a_duplicate_until_the_pass_is_over(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    (tmp_path / "pool/copy.png").write_bytes(make_png(4))
    seen = pool.seen()
    first = list(islice(pool.read(seed=1, seen=seen), 5))
    seen.save(tmp_path / "seen.npz", first[-1].cursor.rows)
    again = pool.seen(tmp_path / "seen.npz")
    rest = list(islice(pool.read(seed=1, cursor=first[-1].cursor, seen=again), 6 + 11))
    refused = [d.image for d in [*first, *rest] if isinstance(d.image, Rejection)]
    assert [r.gate for r in refused] == ["duplicate"] * 2
    assert [r.slot // 11 for r in refused] == [0, 1]
    assert all(str(tmp_path / "pool") in r.reason for r in refused)


def test_behind_the_last_image_the_pool_begins_anew_in_another_order(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    drawn = shas(islice(pool.draw(seed=1), 20))
    assert sorted(drawn[:10]) == sorted(drawn[10:])
    assert drawn[:10] != drawn[10:]


def test_unreadable_and_repeated_images_are_counted_rejections(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 8)
    write_png(tmp_path / "pool/copy.png", 3)
    (tmp_path / "pool/broken.png").write_bytes(b"nothing")
    results = list(islice(pool.draw(seed=1), 10))
    refused = [r for r in results if isinstance(r, Rejection)]
    assert sorted(r.gate for r in refused) == ["duplicate", "image"]
    assert all(results[r.slot] is r for r in refused)
    assert len(set(shas(results))) == 8


def test_a_pool_without_one_readable_image_is_an_error_and_no_endless_search(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(PoolError, match="no readable image in 3"):
        list(ImagePool(str(tmp_path), ImageStore(tmp_path / "images")).draw(seed=0))


def test_an_empty_pool_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PoolError) as error:
        next(ImagePool(str(tmp_path), ImageStore(tmp_path / "images")).draw(seed=0))
    assert len(str(error.value).splitlines()) == 1


def test_a_draw_holds_a_part_of_the_pool_only(tmp_path: Path) -> None:
    images = [make_png(i, size=64) + b"\0" * 50_000 for i in range(400)]
    pq.write_table(pa.table({"image": images}), tmp_path / "pool.parquet", row_group_size=4)
    total = sum(map(len, images))
    del images
    pool = ImagePool(str(tmp_path / "pool.parquet"), ImageStore(tmp_path / "images"))
    pool.blocks  # noqa: B018  # the footers are no part of a draw
    tracemalloc.start()
    assert len(list(islice(pool.draw(seed=0), 64))) == 64
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < total / 2


def test_a_check_passes_with_one_readable_image_and_names_the_first_reason_without(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 3)
    for name in ("000.png", "001.png"):
        (tmp_path / "pool" / name).write_bytes(b"nothing")
    pool.check()
    (tmp_path / "pool/002.png").write_bytes(b"")
    with pytest.raises(PoolError, match=r"none of the images can be read, 3 looked at \(.*000.png: "):
        pool.check()


def test_a_check_of_a_large_pool_looks_at_some_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpe_ray.pool.sets.CHECKED", 4)
    pool = pool_of(tmp_path, 10)
    for file in (tmp_path / "pool").iterdir():
        file.write_bytes(b"nothing")
    with pytest.raises(PoolError, match=", 4 looked at"):
        pool.check()
