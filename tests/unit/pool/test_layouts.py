import io
import json
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_png, write_png

from dpe_ray.errors import PoolError
from dpe_ray.pool.blocks import find_blocks
from dpe_ray.pool.layouts.fields import PoolRow
from dpe_ray.pool.rows import read_block


def rows(source: Path | str, *, bare: bool = False) -> list[PoolRow]:
    return [row for block in find_blocks(str(source)) for row in read_block(block, bare=bare)]


def data(source: Path | str) -> set[bytes]:
    return {row.data for row in rows(source)}


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def write_arrow(path: Path, table: pa.Table, *, stream: bool) -> None:
    open_writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    with open_writer(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def test_a_folder_is_read_to_the_bottom_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    write_png(tmp_path / "b.PNG", 1)
    write_png(tmp_path / "deep/er/a.png", 2)
    write_png(tmp_path / ".trash/c.png", 3)
    (tmp_path / "notes.txt").write_text("no image")
    assert [row.where for row in rows(tmp_path)] == [str(tmp_path / "b.PNG"), str(tmp_path / "deep/er/a.png")]


def test_a_glob_and_a_single_file_are_sources(tmp_path: Path) -> None:
    one = write_png(tmp_path / "x1.png")
    write_png(tmp_path / "y1.png")
    assert [row.where for row in rows(tmp_path / "x*.png")] == [str(one)]
    assert rows(one) == [PoolRow(str(one), make_png(), last=True)]


def test_parquet_is_read_in_parts_of_its_row_groups(tmp_path: Path) -> None:
    table = pa.table({"image": [b"%d" % i for i in range(700)], "caption": ["a cat", None] * 350})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=600)
    blocks = find_blocks(str(tmp_path))
    assert [(b.group, b.start, b.stop) for b in blocks] == [(0, 0, 256), (0, 256, 512), (0, 512, 600), (1, 0, 100)]
    read = [row for block in blocks for row in read_block(block)]
    assert [row.data for row in read] == [b"%d" % i for i in range(700)]
    assert [row.caption for row in read[:2]] == ["a cat", ""]
    assert [row.where for row in read_block(blocks[2], 86)] == [f"{tmp_path}/a.parquet#0.{i}" for i in (598, 599)]


def test_parquet_may_hold_the_form_of_hugging_face_or_paths(tmp_path: Path) -> None:
    write_png(tmp_path / "side.png", 5)
    table = pa.table({"image": [{"bytes": make_png(4), "path": "x.png"}, {"bytes": None, "path": "side.png"}]})
    pq.write_table(table, tmp_path / "hf.parquet")
    assert data(tmp_path / "hf.parquet") == {make_png(4), make_png(5)}


@pytest.mark.parametrize("stream", [True, False])
def test_what_save_to_disk_writes_is_read_without_its_library(tmp_path: Path, stream: bool) -> None:
    images = [{"bytes": make_png(i), "path": None} for i in range(5)]
    table = pa.table({"image": images, "text": [f"picture {i}" for i in range(5)], "license": ["CC0"] * 5})
    write_arrow(tmp_path / "data-00000-of-00001.arrow", table, stream=stream)
    write_arrow(tmp_path / "cache-1234.arrow", table.slice(0, 1), stream=stream)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    read = rows(tmp_path)
    assert [(row.data, row.caption, row.licence) for row in read] == [
        (make_png(i), f"picture {i}", "CC0") for i in range(5)
    ]
    (block,) = find_blocks(str(tmp_path))
    assert list(read_block(block, 3)) == read[3:]


def test_jsonl_paths_are_relative_to_the_file_and_urls_are_fetched(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 1)
    url = write_png(tmp_path / "b.png", 2).as_uri()
    lines = [{"path": "a.png", "tags": ["cat", "sofa"], "title": "At home"}, {"url": url}, "a.png"]
    (tmp_path / "list.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    read = rows(tmp_path / "list.jsonl")
    assert sorted(row.data for row in read) == sorted([make_png(1), make_png(2), make_png(1)])
    assert {row.caption for row in read} == {"At home; cat, sofa", ""}


def test_every_line_of_jsonl_belongs_to_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpe_ray.pool.blocks.BYTES", 40)
    lines = [json.dumps({"path": "x" * (i % 50)}) for i in range(60)]
    (tmp_path / "list.jsonl").write_text("\n".join(lines) + "\n")
    blocks = find_blocks(str(tmp_path))
    assert len(blocks) > 20
    places = [int(row.where.rpartition("@")[2]) for block in blocks for row in read_block(block, bare=True)]
    assert len(places) == len(set(places)) == 60


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_of_one_name_in_a_tar_are_one_sample(tmp_path: Path, mode: str) -> None:
    end = {"w": "tar", "w:gz": "tar.gz"}[mode]
    members = {
        "part/0.jpg": make_png(0), "part/0.txt": b"a red box", "part/0.seg.png": make_png(9),
        "part/1.json": b'{"caption": "two boxes", "license": "CC-BY"}', "part/1.png": make_png(1),
        "part/2.txt": b"nothing to see", "part/3.png": make_png(3), "part/3.json": b"{broken",
    }  # fmt: skip
    source = write_tar(tmp_path / f"a.{end}", members, mode)
    read = rows(source)
    assert [(r.where.rpartition("#")[2], r.data, r.caption, r.licence, r.error) for r in read] == [
        ("part/0", make_png(0), "a red box", "", ""),
        ("part/1", make_png(1), "two boxes", "CC-BY", ""),
        ("part/2", b"", "", "", "has no image"),
        ("part/3", make_png(3), "", "", ""),
    ]
    (block,) = find_blocks(str(source))
    assert list(read_block(block, 2)) == read[2:]
    assert [row.caption for row in read_block(block, bare=True)] == ["a red box", "two boxes", "", ""]


def test_links_of_a_tar_lead_nowhere(tmp_path: Path) -> None:
    secret = write_png(tmp_path / "secret.png", 7)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("0.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    assert rows(tmp_path / "a.tar") == []


@pytest.mark.parametrize("kind", ["tar", "arrow", "parquet", "gone"])
def test_a_file_that_breaks_off_ends_with_one_reason(tmp_path: Path, kind: str) -> None:
    images = [make_png(i, size=128) for i in range(40)]
    table = pa.table({"image": images})
    if kind == "tar":
        write_tar(tmp_path / "a.tar", {f"{i}.png": image for i, image in enumerate(images)})
    elif kind == "arrow":
        write_arrow(tmp_path / "a.arrow", table, stream=True)
    elif kind == "parquet":
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=10, compression="none")
    else:
        write_png(tmp_path / "a.png")
    (path,) = tmp_path.iterdir()
    blocks = find_blocks(str(path))
    if kind == "parquet":
        whole = path.read_bytes()
        path.write_bytes(whole[:3000] + b"\xff" * 3000 + whole[6000:])
    elif kind == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20_000])
    read = [row for block in blocks for row in read_block(block)]
    refused = [row for row in read if row.error]
    assert len(refused) == 1
    assert refused[0].last
    assert str(path) in refused[0].where
    assert all(row.data in images for row in read if not row.error)


def test_bad_rows_become_reasons_and_the_others_are_read(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png")
    lines = ['{"path": "gone.png"}', "{broken", '{"path": 3}', '{"x": 1}', "[]", '{"path": "a.png"}', "x" * 2_000_000]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    read = rows(tmp_path / "list.jsonl")
    assert sorted(bool(row.error) for row in read) == [False] + [True] * 6
    assert all(len(row.error.splitlines()) <= 1 and len(row.error) <= 200 for row in read)


def test_one_broken_file_among_sound_ones_is_a_row_with_a_reason(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [make_png()]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    sound, broken = rows(tmp_path)
    assert sound.data == make_png()
    assert "no readable parquet" in broken.error


@pytest.mark.parametrize("name", ["gone", "empty", "broken.parquet", "numbers.parquet", "empty/*.png"])
def test_a_source_without_images_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(PoolError) as error:
        find_blocks(str(tmp_path / name))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["png", "parquet", "arrow", "tar", "jsonl"])
@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_every_layout_is_read_behind_a_url(tmp_path: Path, kind: str, protocol: str) -> None:
    local = tmp_path / "pool"
    local.mkdir()
    table = pa.table({"image": [make_png(1)]})
    {
        "png": lambda: write_png(local / "a.png", 1),
        "parquet": lambda: pq.write_table(table, local / "a.parquet"),
        "arrow": lambda: write_arrow(local / "a.arrow", table, stream=True),
        "tar": lambda: write_tar(local / "a.tar", {"0.png": make_png(1)}),
        "jsonl": lambda: (local / "a.jsonl").write_text('{"path": "side/a.png"}'),
    }[kind]()
    if kind == "jsonl":
        write_png(local / "side/a.png", 1)
    if protocol == "file":
        assert data(local.as_uri()) == {make_png(1)}
        return
    fs = fsspec.filesystem("memory")
    fs.put(str(local), f"/{tmp_path.name}-{kind}", recursive=True)
    assert data(f"memory://{tmp_path.name}-{kind}") == {make_png(1)}
