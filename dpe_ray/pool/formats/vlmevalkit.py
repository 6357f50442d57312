"""VLMEvalKit's TSV (arXiv 2407.11691), as MM-Bench comes: one question per row, its image as base64 in a cell.

Columns: `index`, `image` (base64, a list of them, or the index of the row that has it: a cell of at most 64 signs) or
`image_path`, `question`, `hint`, `A` to `Z`, `answer`, `category`, `l2-category`, `split`. Where there is an
l2-category it is the category and the finer one the skill.
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import LETTERS, placed
from dpe_ray.models.images import MAX_BYTES, from_data_uri
from dpe_ray.pool.formats.rows import LabelledRow, Reading
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.readers import Beside
from dpe_ray.types import ImageRef

LONGEST_INDEX = 64
"""Signs up to which the image cell is the index of another row: VLMEvalKit's own rule."""
LONGEST_CELL = 4 * MAX_BYTES
"""Signs: three of the largest images in base64."""

Cells = dict[str, str]


def read_tsv(reading: Reading, store: ImageStore) -> Iterator[LabelledRow]:
    """Rows in the order of the file. Images go to the store as they are met, since later rows may point to them.

    Rows are given when the whole file was seen, since an index may point forward: their text is held, without base64.
    Raises PoolError.
    """
    beside = Beside(reading.path)
    images: dict[str, tuple[ImageRef, ...]] = {}
    rows: list[tuple[str, Cells]] = []
    for number, cells in enumerate(_cells(reading.path)):
        where = f"{reading.path} row {number}"
        if not cells["image"] and not cells.get("image_path"):
            reading.leave_out("without an image")
        elif reading.in_split(cells.get("split")):
            rows.append((where, {**cells, "image": cells["image"][:LONGEST_INDEX]}))
        if len(cells["image"]) > LONGEST_INDEX or (not cells["image"] and cells.get("image_path")):
            with placed(where):
                images[cells["index"]] = _stored(cells, beside, store)
    for where, cells in rows:
        with placed(where):
            fields = _fields(cells, images)
        yield LabelledRow(where, fields)


def _cells(path: str) -> Iterator[dict[str, str]]:
    # Python's own limit of 128 KB a cell is for the whole process and far below an image.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    try:
        with fsspec.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter="\t", restval="")
            needed = {"index", "question"} - set(table.fieldnames or ())
            if needed:
                raise PoolError(f"{path}: has no column {', '.join(sorted(needed))}; needed are index, image, question")
            for row in table:
                yield {"image": ""} | {key: _cell(value) for key, value in row.items() if key is not None}
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise PoolError(f"{path}: is no readable TSV ({error})") from error


def _cell(value: str) -> str:
    """Text of a cell; pandas writes a missing one as nothing, older files hold `nan`."""
    value = value.strip()
    return "" if value == "nan" else value


def _stored(cells: Cells, beside: Beside, store: ImageStore) -> tuple[ImageRef, ...]:
    """Store the images that the row itself has."""
    if cells["image"]:
        return tuple(store.put(_decoded(part)) for part in _parts(cells["image"]))
    return tuple(store.put(beside.read(part)) for part in _parts(cells["image_path"]))


def _parts(cell: str) -> list[str]:
    """One value, or those of a Python list as text."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    return [part for part in (part.strip(" '\"") for part in cell[1:-1].split(",")) if part]


def _decoded(text: str) -> bytes:
    return from_data_uri(text if text.startswith("data:") else f"data:image/unknown;base64,{text}")


def _fields(cells: Cells, images: Mapping[str, tuple[ImageRef, ...]]) -> dict[str, Any]:
    own = images.get(cells["index"]) or images.get(cells["image"])
    if own is None:
        raise PoolError(f"its image is that of row {cells['image']!r}, which has none")
    coarse, fine = cells.get("l2-category", ""), cells.get("category", "")
    return {
        "images": list(own),
        "question": "\n".join(filter(None, (cells.get("hint"), cells["question"]))),
        "options": _options(cells),
        "answer": cells.get("answer"),
        "category": (coarse or fine).replace("/", "-"),
        "skills": [fine] if coarse and fine else [],
    }


def _options(cells: Cells) -> list[str]:
    options = [cells.get(letter, "") for letter in LETTERS]
    while options and not options[-1]:
        options.pop()
    if "" in options:
        raise PoolError(f"option {LETTERS[options.index('')]} is empty but a later one is not")
    return options
