"""Labelled sets: parquet or JSONL of questions with answers, checked row by row.

Keys of a row: `image` (bytes, path or URL; or `images`, a list of them), `question`, `answer`, and if there are any
`options` (list of texts), `kind` (choice, number or text; else told from options and answer), `aliases`, `tolerance`,
`category`, `skills`, `rationale`.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec

from dpe_ray.errors import PoolError
from dpe_ray.grading.numbers import only_number
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.readers import cell_bytes, list_files, open_parquet
from dpe_ray.types import Answer, AnswerKind, ImageRef, Provenance, Sample

NO_CATEGORY = "mixed"
"""Category of a row that states none, as in DPE's list."""
MOST_OPTIONS = 26

log = logging.getLogger(__name__)


def read_samples(source: str, store: ImageStore, *, provenance: str = "support") -> tuple[Sample, ...]:
    """Read a labelled set in its order; a row that repeats another is dropped and counted in the log.

    A set that is measured on must be sound, so the first bad row raises PoolError with file, row and what is wrong;
    so does an empty set.
    """
    samples: dict[str, Sample] = {}
    rows = 0
    for path in list_files(source, (".parquet", ".jsonl")):
        for number, row in enumerate(_rows(path)):
            sample = _sample(row, f"{path} row {number}", path, store, provenance)
            samples.setdefault(sample.id, sample)
            rows += 1
    if not samples:
        raise PoolError(f"{source}: holds no sample; give parquet or JSONL with image, question and answer")
    if len(samples) < rows:
        log.warning("%s: %d of %d rows repeat another and were dropped", source, rows - len(samples), rows)
    return tuple(samples.values())


def _rows(path: str) -> Iterator[Mapping[str, Any]]:
    if path.endswith(".parquet"):
        with open_parquet(path) as table:
            for batch in table.iter_batches(batch_size=64):
                yield from batch.to_pylist()
        return
    if not path.endswith(".jsonl"):
        raise PoolError(f"{path}: is neither parquet nor JSONL")
    with fsspec.open(path, "rb") as file:
        for number, line in enumerate(file):
            if line.strip():
                yield _object(line, f"{path} line {number + 1}")


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PoolError(f"{where}: is no JSON ({error})") from error
    if not isinstance(row, dict):
        raise PoolError(f"{where}: is no JSON object")
    return row


def _sample(row: Mapping[str, Any], where: str, path: str, store: ImageStore, provenance: str) -> Sample:
    question = _text(row, "question", where)
    options = tuple(str(option) for option in _list(row, "options", where))
    if len(options) == 1 or len(options) > MOST_OPTIONS:
        raise PoolError(f"{where}: {len(options)} options; give none or 2 to {MOST_OPTIONS}")
    category = str(row.get("category") or NO_CATEGORY).strip()
    if "/" in category:
        raise PoolError(f"{where}: category {category!r} must not hold a slash: cells are written category/skill")
    return Sample(
        images=_images(row, where, path, store),
        question=question,
        answer=_answer(row, options, where),
        options=options,
        rationale=str(row.get("rationale") or ""),
        category=category,
        skills=tuple(str(skill) for skill in _list(row, "skills", where)),
        provenance=Provenance(provenance),
    )


def _images(row: Mapping[str, Any], where: str, path: str, store: ImageStore) -> tuple[ImageRef, ...]:
    values = _list(row, "images", where) or ([row["image"]] if row.get("image") else [])
    if not values:
        raise PoolError(f"{where}: has no image")
    try:
        return tuple(store.put(cell_bytes(value, path)) for value in values)
    except PoolError as error:
        raise PoolError(f"{where}: {error}") from error


def _answer(row: Mapping[str, Any], options: tuple[str, ...], where: str) -> Answer:
    value = _text(row, "answer", where)
    try:
        kind = AnswerKind(row.get("kind") or _kind(value, options))
        tolerance = float(row.get("tolerance") or 0.0)
    except (ValueError, TypeError) as error:
        raise PoolError(f"{where}: {error}; kind is choice, number or text, tolerance a number") from error
    if not 0.0 <= tolerance < float("inf"):
        raise PoolError(f"{where}: tolerance {tolerance} must be 0 or more")
    if kind is AnswerKind.CHOICE:
        value = _letter(value, options, where)
    if kind is AnswerKind.NUMBER and only_number(value) is None:
        raise PoolError(f"{where}: answer {value!r} is no number; set kind: text")
    return Answer(kind, value, tuple(str(alias) for alias in _list(row, "aliases", where)), tolerance)


def _kind(value: str, options: tuple[str, ...]) -> AnswerKind:
    if options:
        return AnswerKind.CHOICE
    return AnswerKind.NUMBER if value == only_number(value) else AnswerKind.TEXT


def _letter(value: str, options: tuple[str, ...], where: str) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
    if len(value) == 1 and value.upper() in letters:
        return value.upper()
    if options.count(value) == 1:
        return letters[options.index(value)]
    raise PoolError(f"{where}: answer {value!r} is neither one of the options nor their letter ({letters or 'none'})")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
        raise PoolError(f"{where}: {key} is missing or empty")
    return str(value).strip()


def _list(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise PoolError(f"{where}: {key} must be a list")
    return value
