import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_png, write_png
from pydantic import TypeAdapter
from unit.pool.test_layouts import write_tar

from dpe_ray.pool.blocks import find_blocks
from dpe_ray.pool.cursor import LANES, Cursor, read_lap
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool


@pytest.fixture(params=["folder", "parquet", "tar", "jsonl"])
def source(request, tmp_path: Path) -> str:
    """Sixty rows in files of one layout, two of them broken."""
    images = [make_png(i, size=16) for i in range(60)]
    if request.param == "folder":
        for i, image in enumerate(images):
            (tmp_path / f"{i}.png").write_bytes(image)
    elif request.param == "parquet":
        for part in range(20):
            rows = [*images[3 * part : 3 * part + 2], b"" if part < 2 else images[3 * part + 2]]
            pq.write_table(pa.table({"image": rows}), tmp_path / f"{part}.parquet", row_group_size=2)
    elif request.param == "tar":
        for part in range(20):
            write_tar(tmp_path / f"{part}.tar", {f"{i}.png": images[3 * part + i] for i in range(3)})
        whole = (tmp_path / "3.tar").read_bytes()
        (tmp_path / "3.tar").write_bytes(whole[:1500])
    else:
        (tmp_path / "list.jsonl").write_text("\n".join(json.dumps({"path": f"{i}.png"}) for i in range(60)))
    return str(tmp_path)


def places(turns) -> list[str]:
    return [turn.row.where for turn in turns]


def test_a_reading_goes_on_exactly_from_every_row(source: str) -> None:
    blocks = find_blocks(source)
    turns = list(read_lap(blocks, seed=1))
    assert len(turns) == len(set(places(turns)))
    assert [turn.cursor.rows for turn in turns] == list(range(1, len(turns) + 1))
    for at in range(0, len(turns), 7):
        stored = TypeAdapter(Cursor).dump_json(turns[at].cursor)  # as a round's files are written
        rest = list(read_lap(blocks, 1, TypeAdapter(Cursor).validate_json(stored)))
        assert [(t.row, t.cursor) for t in rest] == [(t.row, t.cursor) for t in turns[at + 1 :]]


def test_another_seed_or_pass_is_another_order_of_the_same_rows(tmp_path: Path) -> None:
    for i in range(40):
        write_png(tmp_path / f"{i}.png", i)
    blocks = find_blocks(str(tmp_path))
    orders = [places(read_lap(blocks, seed, Cursor(lap=lap))) for seed, lap in ((1, 0), (2, 0), (1, 1))]
    assert len({tuple(order) for order in orders}) == 3
    assert len({frozenset(order) for order in orders}) == 1


def test_files_sorted_by_kind_are_mixed(tmp_path: Path) -> None:
    for part in range(LANES):
        write_tar(tmp_path / f"kind{part:02}.tar", {f"{i}.png": make_png(i, size=16) for i in range(50)})
    first = places(islice(read_lap(find_blocks(str(tmp_path)), seed=0), 2 * LANES))
    assert len({place.partition("#")[0] for place in first}) == LANES


def test_no_row_comes_twice_in_a_pass_while_the_pool_grows_and_shrinks(tmp_path: Path) -> None:
    for i in range(60):
        write_png(tmp_path / f"{i}.png", i)
    first = list(islice(read_lap(find_blocks(str(tmp_path)), seed=3), 20))
    for i in range(60, 100):
        write_png(tmp_path / f"{i}.png", i)
    untouched = {str(tmp_path / f"{i}.png") for i in range(60)} - set(places(first))
    gone = sorted(untouched)[0]
    Path(gone).unlink()
    rest = places(read_lap(find_blocks(str(tmp_path)), 3, first[-1].cursor))
    assert not set(rest) & set(places(first))
    assert untouched - {gone} <= set(rest)


@pytest.mark.parametrize("source", ["{}", "{}/", "{}/*.png", "file://{}", "file://{}/*.png", "{}/0*.png"])
def test_a_pool_that_lies_elsewhere_is_read_in_the_same_order(tmp_path: Path, source: str) -> None:
    orders = []
    for place in ("here", "some/where/else"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for number in range(40):
            (folder / f"{number:03}.png").write_bytes(make_png(number))
        pool = ImagePool(source.format(folder), ImageStore(tmp_path / "images"))
        orders.append([drawn.image.sha256 for drawn in islice(pool.read(seed=3), 40)])
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == 40
