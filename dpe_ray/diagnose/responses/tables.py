"""Rows of tables: .csv and .tsv by Python's csv, .xlsx by openpyxl. Every cell is text; formulas are not computed.

Rows are counted as a spreadsheet shows them: the header is row 1.
"""

import csv
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from dpe_ray.diagnose.responses.documents import Row
from dpe_ray.errors import PoolError

LONGEST_CELL = 16 * 2**20
"""Characters. A spreadsheet's own limit is 32,767; a rationale in a TSV may be longer, and no answer holds pictures."""
LARGEST_SHEET = 512 * 2**20
"""Bytes of an .xlsx when unpacked."""
MOST_ROWS = 2**20
"""Rows that a spreadsheet can have, its header with them."""
ANSWERS = ("prediction", "response")
"""Columns in which an empty cell is an empty answer; elsewhere it is nothing."""
DAMAGED = (BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError, SyntaxError, EOFError, zlib.error)
"""What openpyxl raises for a workbook that is damaged; a SyntaxError is one of its XML."""


def read_csv(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows below the header. Raises PoolError with file and row."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))  # of the whole process: never made smaller
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            yield from _rows(path, lines, short=False)
        except (csv.Error, UnicodeDecodeError) as error:
            told = f"{path} line {lines.line_num}: is no readable table ({error})"
            raise PoolError(f"{told}; write it anew, as UTF-8 with quotes around texts") from error


def read_xlsx(path: Path, file: IO[bytes]) -> Iterator[Row]:
    """Rows of the first sheet below its header; a cell with a formula gives the formula. Raises PoolError."""
    import openpyxl

    try:
        _check_size(path, file)
        book = openpyxl.load_workbook(file, read_only=True, keep_links=False)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # what the file says of its size may be wrong
        yield from _rows(path, _cells(path, sheet.iter_rows(values_only=True)), short=True)
    except PoolError:
        raise
    except DAMAGED as error:
        raise PoolError(f"{path}: is no readable workbook ({error}); save it anew as .xlsx or .tsv") from error


def _check_size(path: Path, file: IO[bytes]) -> None:
    """Refuse a small file that unpacks to a huge one. zipfile gives no more of a member than its entry states."""
    with ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST_SHEET:
        raise PoolError(f"{path}: unpacks to {size / 2**20:,.0f} MiB, at most {LARGEST_SHEET // 2**20} are read")
    file.seek(0)


def _cells(path: Path, rows: Iterable[Sequence[object]]) -> Iterator[list[str]]:
    """Texts of a sheet's rows. openpyxl makes a row of each that the file skips, however many these are."""
    for number, row in enumerate(rows, start=1):
        if number > MOST_ROWS:
            raise PoolError(f"{path} row {number}: is beyond the {MOST_ROWS:,} rows of a spreadsheet; save it anew")
        yield [_text(value) for value in row]


def _rows(path: Path, rows: Iterable[Sequence[str]], *, short: bool) -> Iterator[Row]:
    """Pair every row with the header; empty rows are left out, and empty cells but those of answers.

    `short`: a row may leave out its last cells where they are empty; elsewhere one without an answer's cell is cut off.
    """
    header: list[str] = []
    for number, cells in enumerate(rows, start=1):
        if not any(cells):
            continue
        if not header:
            header = [name.strip() for name in cells]
            continue
        if any(cells[len(header) :]):
            raise PoolError(f"{path} row {number}: has more cells than the header has columns ({len(header)})")
        lost = next((name for name in header[len(cells) :] if name.lower() in ("answer", *ANSWERS)), "")
        if lost and not short:
            raise PoolError(f"{path} row {number}: ends before its {lost}; the file may be cut off, write it anew")
        pairs = zip_longest(header, cells[: len(header)], fillvalue="")
        yield Row(f"{path} row {number}", {name: cell for name, cell in pairs if name and (cell or name in ANSWERS)})


def _text(value: object) -> str:
    """A cell's text; a whole number without the fraction that spreadsheets give it."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
