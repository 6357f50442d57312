"""What every reader gives, and the two forms of our own: parquet and JSONL."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec

from dpe_ray.grading.rows import json_object, placed
from dpe_ray.pool.readers import open_parquet

BATCH = 64
"""Rows of a parquet file in memory at once."""


@dataclass(frozen=True)
class LabelledRow:
    """One question as its file states it."""

    where: str
    """File and row, for messages."""
    fields: Mapping[str, Any]
    """`images`, `question`, `answer` and so on."""


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


def read_parquet(reading: Reading) -> Iterator[LabelledRow]:
    """Rows of a parquet file, a batch at a time; also of a run's samples.parquet. Raises PoolError."""
    number = 0
    with open_parquet(reading.path) as table:
        for batch in table.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                if reading.in_split(row.get("split")):
                    yield LabelledRow(f"{reading.path} row {number}", _flat(row))
                number += 1


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of a run's samples.parquet, which nests answer and images, as the row of a set."""
    answer = row.get("answer")
    if not isinstance(answer, dict) or "value" not in answer:
        return row
    images = [image["uri"] for image in row.get("images") or ()]
    return {**row, **answer, "answer": answer["value"], "images": images}


def read_jsonl(reading: Reading) -> Iterator[LabelledRow]:
    """One JSON object per line. Raises PoolError with the line that is none."""
    number = 0
    with fsspec.open(reading.path, "rb") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            with placed(f"{reading.path} line {line}"):
                row = json_object(text)
            if reading.in_split(row.get("split")):
                yield LabelledRow(f"{reading.path} row {number}", row)
            number += 1
