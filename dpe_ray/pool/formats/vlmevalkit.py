"""VLMEvalKit's TSV (arXiv 2407.11691), as MM-Bench comes: one question per row, its image as base64 in a cell.

Columns: `index`, `image` (base64, a list of them, or the index of the row that has it: a cell of at most 64 signs) or
`image_path`, `question`, `hint`, `A` to `Z`, `answer`, `category`, `l2-category`, `split`. Where there is an
l2-category it is the category and the finer one the skill.
"""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import lettered_options
from dpe_ray.models.images import MAX_BYTES, from_data_uri
from dpe_ray.pool.formats.rows import LabelledRow, Reading, place, row_of
from dpe_ray.pool.images import ImageStore, stored
from dpe_ray.pool.readers import Beside
from dpe_ray.types import ImageRef

LONGEST_INDEX = 64
"""Signs up to which the image cell is the index of another row: VLMEvalKit's own rule."""
LONGEST_CELL = 4 * MAX_BYTES
"""Signs: three of the largest images in base64."""
UNCLOSED = "close every quote that a cell begins with, and double the quotes in it"

Cells = Mapping[str, str]


def read_tsv(reading: Reading, store: ImageStore) -> Iterator[LabelledRow]:
    """Rows in the order of the file. Images go to the store as they are met, since later rows may point to them.

    A row whose index points forward, and those behind it, are given when that row was seen: their text is held, without
    base64. Raises PoolError.
    """
    beside = Beside(reading.path)
    images, waiting = Images({}, {}), deque[LabelledRow]()
    for row in _table(reading.path):
        cells = row.fields
        if row.error:
            waiting.append(row)
            continue
        if len(cells["image"]) > LONGEST_INDEX or (not cells["image"] and cells.get("image_path")):
            images.store(cells["index"], partial(_stored, cells, beside, store))
        if not cells["image"] and not cells.get("image_path"):
            reading.leave_out("without an image")
        elif reading.in_split(cells.get("split")):
            waiting.append(replace(row, fields={**cells, "image": cells["image"][:LONGEST_INDEX]}))
        while waiting and (waiting[0].error or images.has(waiting[0].fields)):
            yield from _given(waiting.popleft(), images)
    for row in waiting:
        yield from _given(row, images)


def _given(row: LabelledRow, images: "Images") -> Iterator[LabelledRow]:
    yield from [row] if row.error else row_of(row.where, partial(_fields, row.fields, images))


def _table(path: str) -> Iterator[LabelledRow]:
    """The rows as cells by column, with line and index of each; a ragged row is one with an error."""
    # Python's own limit of 128 KB a cell is for the whole process and far below an image.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    line = 1
    try:
        with fsspec.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            held = Held(file)
            table = csv.reader(held, delimiter="\t")
            columns = next(table, [])
            _require_columns(path, columns)
            line = table.line_num + 1
            for cells in table:
                if cells:
                    held.require_closed(f"{path} line {line}")
                    yield _row(f"line {line}", path, columns, cells)
                held.lines.clear()
                line = table.line_num + 1
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise PoolError(f"{path} line {line}: is no readable TSV ({error}); {UNCLOSED}") from error


def _require_columns(path: str, columns: Sequence[str]) -> None:
    if missing := {"index", "question"} - set(columns):
        hint = "; part them with tabs, not commas" if len(columns) == 1 and "," in columns[0] else ""
        raise PoolError(
            f"{path}: has no column {', '.join(sorted(missing))}; needed are index, image, question, answer{hint}"
        )


def _row(line: str, path: str, columns: Sequence[str], cells: Sequence[str]) -> LabelledRow:
    fields = {"image": ""} | {key: _cell(value) for key, value in zip(columns, cells, strict=False)}
    where = place(path, line, fields)
    if len(cells) == len(columns):
        return LabelledRow(where, fields)
    ragged = f"has {len(cells)} cells for {len(columns)} columns; put a cell with a tab, line break or quote in quotes"
    return LabelledRow(where, {}, f"{ragged}, and double the quotes in it")


class Held:
    """Lines of a file, and those of the row that is being read: a quote left open swallows all that follow."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._file = iter(lines)
        self.lines: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.lines.append(line)
            yield line

    def require_closed(self, where: str) -> None:
        """Raise PoolError for a row of several lines with an odd number of quotes: those of a sound one are paired."""
        if len(self.lines) > 1 and sum(line.count('"') for line in self.lines) % 2:
            raise PoolError(f"{where}: {UNCLOSED}")


@dataclass(frozen=True)
class Images:
    """Stored images by the index of the row that has them, or why it has none."""

    found: dict[str, tuple[ImageRef, ...]]
    broken: dict[str, str]

    def store(self, index: str, images_of: Callable[[], tuple[ImageRef, ...]]) -> None:
        """Keep what `images_of` gives, or the PoolError that it raises."""
        try:
            self.found[index] = images_of()
        except PoolError as error:
            self.broken[index] = str(error)

    def has(self, cells: Cells) -> bool:
        """Whether it is known what the row's image is."""
        return any(index in known for index in (cells["index"], cells["image"]) for known in (self.found, self.broken))

    def of(self, cells: Cells) -> tuple[ImageRef, ...]:
        """The row's own images, or those of the row that its cell names. Raises PoolError."""
        for index in (cells["index"], cells["image"]):
            if index in self.found:
                return self.found[index]
            if index in self.broken:
                raise PoolError(self.broken[index])
        hint = "; a path belongs in a column image_path" if "." in cells["image"] or "/" in cells["image"] else ""
        raise PoolError(f"its image is that of row {cells['image']!r}, which has none{hint}")


def _cell(value: str) -> str:
    """Text of a cell; pandas writes a missing one as nothing, older files hold `nan`."""
    value = value.strip()
    return "" if value == "nan" else value


def _stored(cells: Cells, beside: Beside, store: ImageStore) -> tuple[ImageRef, ...]:
    """Store the images that the row itself has."""
    if cells["image"]:
        return tuple(store.put(_decoded(part)) for part in _parts(cells["image"]))
    return tuple(stored(beside.cell(part), "", store) for part in _parts(cells["image_path"]))


def _parts(cell: str) -> list[str]:
    """One value, or those of a Python list as text."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    return [part for part in (part.strip(" '\"") for part in cell[1:-1].split(",")) if part]


def _decoded(text: str) -> bytes:
    try:
        return from_data_uri(text if text.startswith("data:") else f"data:image/unknown;base64,{text}")
    except PoolError as error:
        if "no base64" not in str(error):
            raise
        shown = f"{text[:20]}..."
        raise PoolError(f"image: the cell {shown!r} is no base64; a path belongs in a column image_path") from error


def _fields(cells: Cells, images: Images) -> dict[str, Any]:
    coarse, fine = cells.get("l2-category", ""), cells.get("category", "")
    return {
        "images": list(images.of(cells)),
        "question": "\n".join(filter(None, (cells.get("hint"), cells["question"]))),
        "options": lettered_options(cells),
        "answer": cells.get("answer"),
        "category": (coarse or fine).replace("/", "-"),
        "skills": [fine] if coarse and fine else [],
    }
