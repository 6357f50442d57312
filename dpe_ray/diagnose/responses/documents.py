"""Rows of JSONL, and of one JSON document."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import json_object, placed

LONGEST_LINE = 64 * 2**20
"""Bytes. Logs that hold pictures as text have long lines; a longer one is no answer."""
LARGEST_DOCUMENT = 256 * 2**20
"""Bytes of a JSON document, which is parsed as a whole: in Python it takes up to ten times as much."""
READABLE = (
    "readable are JSONL or a JSON array of objects, a .csv, .tsv or .xlsx table with a header, and inspect_ai's .eval "
    "and .json"
)


class Row(NamedTuple):
    """One object of a log."""

    where: str
    """File and line, row or sample, for messages."""
    fields: Mapping[str, Any]


def read_lines(path: Path) -> Iterator[Row]:
    """One JSON object per line, empty lines left out. Raises PoolError with file and line."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if not line.strip():
                continue
            with placed(f"{path} line {number}"):
                if len(line) > LONGEST_LINE:
                    raise PoolError(f"is longer than {LONGEST_LINE // 2**20} MiB; {READABLE}")
                yield Row(f"{path} line {number}", _object(line, first=number == 1))


def _object(line: bytes, *, first: bool) -> Mapping[str, Any]:
    try:
        return json_object(line)
    except PoolError as error:
        raise PoolError(f"{error}; {READABLE}" if first else str(error)) from error


def read_document(path: Path) -> Any:
    """Parse a JSON document whole. Raises PoolError when it is none, or larger than `LARGEST_DOCUMENT`."""
    with path.open("rb") as file:
        content = file.read(LARGEST_DOCUMENT + 1)
    if len(content) > LARGEST_DOCUMENT:
        raise PoolError(
            f"{path}: is one JSON document of over {LARGEST_DOCUMENT // 2**20} MiB; write an array as JSONL, an "
            "inspect_ai log as .eval (`inspect log convert --to eval`)"
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PoolError(f"{path}: is no JSON ({error}); {READABLE}") from error


def array_rows(path: Path, members: list[Any]) -> Iterator[Row]:
    """Members of a JSON array as rows, counted from 1. Raises PoolError for one that is no object."""
    for number, member in enumerate(members, start=1):
        where = f"{path} row {number}"
        if not isinstance(member, dict):
            raise PoolError(f"{where}: is no JSON object; an array of objects can be read")
        with placed(where):
            fields = json_object(json.dumps(member))  # as text once more: half of a character is found there
        yield Row(where, fields)
