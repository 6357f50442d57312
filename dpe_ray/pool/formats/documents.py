"""One JSON document that holds a whole set: a list of conversations (LLaVA) or problems by id (ScienceQA).

Read as a stream, a row at a time: Vision-Flan has 1.6 million rows.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, TextIO

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.pool.formats.llava import conversation_fields
from dpe_ray.pool.formats.rows import LabelledRow, Reading, place, row_of
from dpe_ray.pool.formats.scienceqa import problem_fields
from dpe_ray.pool.readers import Beside

CHUNK = 2**20
"""Signs read at once."""
LONGEST_ROW = 16 * 2**20
"""Signs of a row; images are files, so a longer one is broken."""


def read_json(reading: Reading) -> Iterator[LabelledRow]:
    """Rows of a list of LLaVA conversations or of ScienceQA's problems.json, told apart by the first bracket.

    Raises PoolError when it is neither.
    """
    beside = Beside(reading.path)
    try:
        with fsspec.open(reading.path, "rt", encoding="utf-8-sig") as file:
            document = Document(file, reading.path)
            forms = {"[": (document.items, conversation_fields), "{": (document.pairs, problem_fields)}
            if document.sign() not in forms:
                raise PoolError(f"{reading.path}: begins neither with [ (LLaVA) nor with {{ (ScienceQA problems)")
            items, fields_of = forms[document.sign()]
            for where, item in items():
                yield from row_of(where, partial(fields_of, item, beside, reading))
    except (OSError, UnicodeDecodeError) as error:
        raise PoolError(f"{reading.path}: cannot be read ({error})") from error


class Document:
    """A JSON list or object whose members are parsed one by one. Raises PoolError."""

    def __init__(self, file: TextIO, path: str) -> None:
        self._file, self._path = file, path
        self._text, self._at, self._ended = "", 0, False
        self._decode = json.JSONDecoder().raw_decode

    def sign(self) -> str:
        """The next sign that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def items(self) -> Iterator[tuple[str, Any]]:
        """Give place and value of every member of a list."""
        for number in self._members("[", "]"):
            value = self._value(f"{self._path} row {number}")
            yield place(self._path, f"row {number}", value), value

    def pairs(self) -> Iterator[tuple[str, Any]]:
        """Give place and value of every member of an object; the key goes into the value as `id`."""
        for number in self._members("{", "}"):
            key = self._value(f"{self._path} key {number}")
            where = f"{self._path} problem {key}"
            self._take(":", where)
            value = self._value(where)
            yield where, {"id": key, **value} if isinstance(value, dict) else value

    def _members(self, opening: str, closing: str) -> Iterator[int]:
        """Count the members, standing at each; reads the signs around and between them."""
        self._take(opening, self._path)
        number = 0
        while self.sign() != closing:
            if number:
                self._take(",", f"{self._path} row {number}")
            yield number
            number += 1

    def _take(self, wanted: str, where: str) -> None:
        if self.sign() != wanted:
            raise PoolError(f"{where}: is no JSON (expected {wanted})")
        self._at += 1

    def _value(self, where: str) -> Any:
        self.sign()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # else a number may go on in the next chunk
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > LONGEST_ROW:
                    raise PoolError(f"{where}: is no JSON ({error.msg})") from error
            except RecursionError as error:
                raise PoolError(f"{where}: is nested too deeply") from error
            self._fill()

    def _fill(self) -> bool:
        """Read on, as much again as is waiting, so that a long row is not parsed once per chunk."""
        waiting = self._text[self._at :]
        read = self._file.read(max(CHUNK, len(waiting)))
        self._text, self._at, self._ended = waiting + read, 0, not read
        return bool(read)
