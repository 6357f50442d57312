"""WebDataset: a tar whose neighbouring files of one name (up to the first dot) are one sample.

The first image among them counts; `.txt`, `.caption` and `.json` beside it hold its caption and licence. Nothing is
unpacked to disk, so names and links in the archive lead nowhere.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.models.images import MAX_BYTES
from dpe_ray.pool.blocks import IMAGES, Block
from dpe_ray.pool.layouts.fields import PoolRow, row_of

TEXTS = (".txt", ".caption", ".json")
MOST_TEXT = 1 << 20
"""Bytes of a text beside an image."""


def tar_rows(block: Block, skip: int, bare: bool) -> Iterator[PoolRow]:
    """One row per sample, in the order of the archive; a sample without an image is a row with an error."""
    for number, (key, fields) in enumerate(_samples(block.file, skip, bare)):
        if number < skip:
            continue
        where = f"{block.file}#{key}"
        if "image" in fields:
            yield row_of(where, fields, block.file, bare=bare)
        else:
            yield PoolRow(where, error=str(fields.get("error", "has no image")))


def _samples(file: str, skip: int, bare: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and fields; of the first `skip` samples, and of all images when bare, only that they are there."""
    number, last, fields = -1, None, dict[str, Any]()
    with fsspec.open(file, "rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
        while (member := tar.next()) is not None:
            vars(tar)["members"].clear()  # or it keeps the headers of the whole archive
            if not member.isfile():
                continue
            path = PurePosixPath(member.name)
            stem, dot, ending = path.name.partition(".")
            key = str(path.with_name(stem)) if stem else ""
            if not key:  # hidden
                continue
            if key != last:
                if last is not None:
                    yield last, fields
                number, last, fields = number + 1, key, {}
            _take(tar, member, (dot + ending).lower(), fields, unread=number < skip, bare=bare)
        ended = _has_end(tar)
    if last is not None:
        yield last, fields
    if not ended:
        raise PoolError("the archive breaks off: it has no end mark")


def _has_end(tar: tarfile.TarFile) -> bool:
    """Whether a whole block follows the last member; tarfile takes an archive cut between two members for complete."""
    assert tar.fileobj is not None, "an open archive has a file"
    tar.fileobj.seek(tar.offset)
    return len(tar.fileobj.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE


def _take(
    tar: tarfile.TarFile, member: tarfile.TarInfo, end: str, fields: dict[str, Any], *, unread: bool, bare: bool
) -> None:
    if end in IMAGES and "image" not in fields:
        if member.size > MAX_BYTES:
            fields["error"] = f"{member.size} bytes are more than {MAX_BYTES}"
        else:
            fields["image"] = b"" if unread or bare else _read(tar, member)
    elif end in TEXTS and not unread and member.size <= MOST_TEXT:
        text = _read(tar, member).decode(errors="replace")
        fields.update(_said(text) if end == ".json" else {"caption": text})


def _said(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):  # its image is sound all the same
        return {}
    return {key: value for key, value in said.items() if key != "image"} if isinstance(said, dict) else {}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "only regular files are read"
    return file.read()
