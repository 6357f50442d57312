"""What every reader gives, and the two forms of our own: parquet and JSONL."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import json_object
from dpe_ray.pool.readers import open_parquet

BATCH = 64
"""Rows of a parquet file in memory at once."""
NO_LIST = "JSONL holds one object per line, such as `jq -c '.[]'` makes of a list"
ID_KEYS = ("id", "index", "question_id")
LONGEST_ID = 60
"""Signs of an id that a message shows."""


@dataclass(frozen=True)
class LabelledRow:
    """One question as its file states it."""

    where: str
    """File and row, and the row's own id where it has one, for messages."""
    fields: Mapping[str, Any]
    """`images`, `question`, `answer` and so on."""
    error: str = ""
    """Why the row cannot be used; those behind it can."""


@dataclass(frozen=True)
class Reading:
    """One pass over one file, and what it left out."""

    path: str
    split: str = ""
    """Only rows of this split; empty takes all."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows, or parts of rows, by the reason why they were not taken."""

    def leave_out(self, reason: str) -> None:
        """Count what is not taken."""
        self.left_out[reason] += 1

    def in_split(self, stated: object) -> bool:
        """Whether a row that states this split is wanted; the others are left out."""
        if not self.split or stated == self.split:
            return True
        self.leave_out("of another split")
        return False


def row_of(where: str, fields_of: Callable[[], Mapping[str, Any] | None]) -> Iterator[LabelledRow]:
    """Give the row with its fields, or with what PoolError they raise; nothing for a row that is left out."""
    try:
        fields = fields_of()
    except PoolError as error:
        yield LabelledRow(where, {}, str(error))
    else:
        if fields is not None:
            yield LabelledRow(where, fields)


def place(path: str, row: str, item: Any) -> str:
    """File, row and the id that the row itself states."""
    stated = (item.get(key) for key in ID_KEYS) if isinstance(item, Mapping) else ()
    own = next((id_ for id_ in stated if id_ is not None and str(id_).strip()), None)
    return f"{path} {row}" if own is None else f"{path} {row} (id {str(own)[:LONGEST_ID]})"


def read_parquet(reading: Reading) -> Iterator[LabelledRow]:
    """Rows of a parquet file, a batch at a time; also of a run's samples.parquet. Raises PoolError."""
    number = 0
    with open_parquet(reading.path) as table:
        for batch in table.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                if reading.in_split(row.get("split")):
                    yield LabelledRow(place(reading.path, f"row {number}", row), _flat(row))
                number += 1


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of a run's samples.parquet, which nests answer and images, as the row of a set."""
    answer = row.get("answer")
    if not isinstance(answer, dict) or "value" not in answer:
        return row
    images = [image["uri"] for image in row.get("images") or ()]
    return {**row, **answer, "answer": answer["value"], "images": images}


def read_jsonl(reading: Reading) -> Iterator[LabelledRow]:
    """One JSON object per line. Raises PoolError for a file that holds one list."""
    with fsspec.open(reading.path, "rb") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            where = f"{reading.path} line {line}"
            if line == 1 and text.lstrip().startswith(b"["):
                raise PoolError(f"{where}: begins a JSON list; {NO_LIST}")
            for row in row_of(where, partial(json_object, text)):
                if row.error:
                    yield row
                elif reading.in_split(row.fields.get("split")):
                    yield replace(row, where=place(reading.path, f"line {line}", row.fields))
