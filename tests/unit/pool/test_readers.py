import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_png, write_png

from dpe_ray.errors import PoolError
from dpe_ray.pool.readers import find_images, load_images


def read(source: Path | str) -> dict[str, bytes]:
    return {found.name: found.data for found in load_images(find_images(str(source)))}


def test_a_folder_is_read_to_the_bottom_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    write_png(tmp_path / "b.PNG", 1)
    write_png(tmp_path / "deep/er/a.png", 2)
    write_png(tmp_path / ".trash/c.png", 3)
    (tmp_path / "notes.txt").write_text("no image")
    assert list(read(tmp_path)) == [str(tmp_path / "b.PNG"), str(tmp_path / "deep/er/a.png")]


def test_a_glob_and_a_single_file_are_sources(tmp_path: Path) -> None:
    one = write_png(tmp_path / "x1.png")
    write_png(tmp_path / "y1.png")
    assert list(read(tmp_path / "x*.png")) == [str(one)]
    assert read(one) == {str(one): make_png()}


def test_parquet_rows_are_found_by_row_group_and_keep_their_order(tmp_path: Path) -> None:
    images = [make_png(i) for i in range(7)]
    for part in range(2):
        table = pa.table({"image": images, "name": [f"{part}-{i}" for i in range(7)]})
        pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=3)
    addresses = find_images(str(tmp_path))
    assert len(addresses) == 14
    shuffled = addresses[::-2]
    names = [found.name for found in load_images(shuffled)]
    assert names == [f"{p}-{i}" for p in (0, 1) for i in range(7)][::-2]


def test_parquet_may_hold_the_form_of_hugging_face_or_paths(tmp_path: Path) -> None:
    write_png(tmp_path / "side.png", 5)
    rows = pa.table({"image": [{"bytes": make_png(4), "path": "x.png"}, {"bytes": None, "path": "side.png"}]})
    pq.write_table(rows, tmp_path / "hf.parquet")
    assert list(read(tmp_path / "hf.parquet").values()) == [make_png(4), make_png(5)]


def test_jsonl_paths_are_relative_to_the_file_and_urls_are_fetched(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 1)
    url = (write_png(tmp_path / "b.png", 2)).as_uri()
    lines = [json.dumps({"path": "a.png"}), "", json.dumps({"url": url}), json.dumps("a.png")]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    assert [f.data for f in load_images(find_images(str(tmp_path / "list.jsonl")))] == [
        make_png(1),
        make_png(2),
        make_png(1),
    ]


def test_bad_rows_become_reasons_and_the_others_are_read(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png")
    lines = ['{"path": "gone.png"}', "{broken", '{"path": 3}', '{"x": 1}', "[]", '{"path": "a.png"}']
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    found = list(load_images(find_images(str(tmp_path / "list.jsonl"))))
    assert [bool(f.error) for f in found] == [True, True, True, True, True, False]
    assert all(len(f.error.splitlines()) <= 1 for f in found)


@pytest.mark.parametrize("name", ["gone", "empty", "broken.parquet", "numbers.parquet", "empty/*.png"])
def test_a_source_without_images_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(PoolError) as error:
        find_images(str(tmp_path / name))
    assert len(str(error.value).splitlines()) == 1
