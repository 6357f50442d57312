"""Recorded answers from the log of whichever tool wrote it, told by its content; a name only says what a table is."""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

from dpe_ray.diagnose.responses import inspect_log, lmms_eval, plain, vlmevalkit
from dpe_ray.diagnose.responses.documents import READABLE, Row, array_rows, read_document, read_lines
from dpe_ray.diagnose.responses.response import Response
from dpe_ray.diagnose.responses.tables import read_csv, read_xlsx
from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import placed

TABLES = {".csv": ",", ".tsv": "\t"}
ZIP = b"PK\x03\x04"
REFUSED = {
    b"PAR1": "is parquet; a run's verdicts are graded already (see its report.html), write other tables as .tsv",
    b"\x80": "is a pickle, and reading one would run what is in it; write it as .xlsx or .tsv",
    b"\xd0\xcf\x11\xe0": "is an .xls workbook; save it as .xlsx",
    b"\x1f\x8b": "is packed with gzip; unpack it",
}
"""By the first bytes."""
_TASK = re.compile(r"_samples_(.+)\.jsonl?$")


class Form(NamedTuple):
    """How the rows of one tool state an answer."""

    fits: Callable[[Row], bool]
    read: Callable[[Row, str], Iterator[Response]]
    """Row and name of the task, where the file's name says one."""


FORMS = (
    Form(lmms_eval.is_sample, lmms_eval.read_sample),
    Form(plain.is_plain, plain.read_plain),
    Form(vlmevalkit.is_prediction, vlmevalkit.read_prediction),
)
NEEDED = (
    "a row needs question, answer and response; of VLMEvalKit question, answer and prediction; of lmms-eval doc_id, "
    "target and filtered_resps (its *_samples_*.jsonl files, written with --log_samples)"
)


def read_responses(path: Path) -> Iterator[Response]:
    """Give the answers of a log in its order.

    Reads our own JSONL and MMMU-Pro's, lmms-eval's samples, VLMEvalKit's predictions and results, inspect_ai's logs.
    Raises PoolError with file and line, row or sample for what is no answer, and for a file that cannot be read.
    """
    try:
        yield from _responses(path)
    except OSError as error:
        raise PoolError(f"{path}: cannot be read ({error.strerror}); give a log file: {READABLE}") from error


def _responses(path: Path) -> Iterator[Response]:
    with path.open("rb") as file:
        head = file.read(4096)
    why = next((why for signature, why in REFUSED.items() if head.startswith(signature)), "")
    if why:
        raise PoolError(f"{path}: {why}")
    if head.startswith(ZIP):
        yield from _from_zip(path)
    elif delimiter := TABLES.get(path.suffix.lower()):
        yield from _formed(path, read_csv(path, delimiter))
    elif _is_document(path, head):
        yield from _from_document(path)
    else:
        yield from _formed(path, read_lines(path))


def _from_zip(path: Path) -> Iterator[Response]:
    with path.open("rb") as file:
        if "xl/workbook.xml" in _names(path):
            yield from _formed(path, read_xlsx(path, file))
        else:
            yield from inspect_log.read_eval(path, file)


def _names(path: Path) -> set[str]:
    try:
        with ZipFile(path) as archive:
            return set(archive.namelist())
    except BadZipFile as error:
        raise PoolError(f"{path}: is a broken zip file ({error}); copy it anew") from error


def _is_document(path: Path, head: bytes) -> bool:
    """An array, or a file named .json whose first line is no row by itself."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(b"[") or (path.suffix.lower() == ".json" and not _is_row(path))


def _is_row(path: Path) -> bool:
    try:
        first = next(read_lines(path), None)
    except PoolError:
        return False
    return first is not None and not inspect_log.is_log(first.fields) and any(form.fits(first) for form in FORMS)


def _from_document(path: Path) -> Iterator[Response]:
    document = read_document(path)
    if isinstance(document, list):
        yield from _formed(path, array_rows(path, document))
    elif inspect_log.is_log(document):
        yield from inspect_log.read_log(path, document)
    elif isinstance(document, dict) and {"results", "configs"} <= document.keys():
        raise PoolError(f"{path}: has lmms-eval's totals; give the *_samples_*.jsonl beside it (--log_samples)")
    else:
        raise PoolError(f"{path}: is no log of answers; {READABLE}")


def _formed(path: Path, rows: Iterator[Row]) -> Iterator[Response]:
    """Read rows by the form that the first one has."""
    first = next(rows, None)
    if first is None:
        return
    form = next((form for form in FORMS if form.fits(first)), None)
    if form is None:
        raise PoolError(f"{first.where}: has no response; it has {_keys(first)}; {NEEDED}")
    named = _TASK.search(path.name)
    task = named[1] if named else ""
    for row in chain([first], rows):
        with placed(row.where):
            if not form.fits(row):
                raise PoolError(f"has no response, unlike the first one; it has {_keys(row)}")
            responses = list(form.read(row, task))
        yield from responses


def _keys(row: Row) -> str:
    return ", ".join(row.fields)[:200] or "nothing"
