"""Labelled sets, read row by row into samples and checked.

Read are parquet and JSONL with the keys below, and the forms in which others publish: LLaVA's JSON (Vision-Flan),
ScienceQA's problems.json and VLMEvalKit's TSV (MM-Bench); see `formats`. A folder is read by its first kind in this
order: parquet, JSONL, TSV, JSON. `SOURCE#SPLIT` takes the rows whose `split` is SPLIT.

Keys of a row: `image` (bytes, path or URL; or `images`, a list of them), `question`, `answer`, and if there are any
`options` (list of texts), `kind` (choice, number or text; else told from options and answer), `aliases`, `tolerance`,
`category`, `skills`, `rationale`.
"""

import logging
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from dpe_ray.errors import PoolError, PoolUnreachable
from dpe_ray.grading.rows import answer_of, list_of, meant, placed, text_of
from dpe_ray.pool.formats.documents import read_json
from dpe_ray.pool.formats.rows import LabelledRow, Reading, read_jsonl, read_parquet
from dpe_ray.pool.formats.vlmevalkit import read_tsv
from dpe_ray.pool.images import ImageStore, stored
from dpe_ray.pool.readers import list_files
from dpe_ray.types import ImageRef, Provenance, Rejection, Sample

NO_CATEGORY = "mixed"
"""Category of a row that states none, as in DPE's list."""
KINDS = (".parquet", ".jsonl", ".tsv", ".json")
SCIENCEQA = "problems.json"
"""Of a folder's JSON files only this one is read where it is: its neighbours are lists of ids and captions."""

MISSPELT = 0.8
"""Share of equal letters from which a key that nobody reads may be one that is."""
KEYS = frozenset(
    (
        *("id", "image", "images", "question", "answer", "options", "kind", "aliases", "tolerance"),
        *("category", "skills", "rationale", "split"),
    )
)
NO_CSV = "save a CSV as JSONL, one object per line, or as TSV with VLMEvalKit's columns"

log = logging.getLogger(__name__)


def read_samples(
    source: str, store: ImageStore, *, provenance: str = "support", refused: list[Rejection] | None = None
) -> tuple[Sample, ...]:
    """Read a labelled set in its order, as `stream_samples` does, into memory; images stay in the store."""
    return tuple(stream_samples(source, store, provenance=provenance, refused=refused))


def stream_samples(
    source: str, store: ImageStore, *, provenance: str = "support", refused: list[Rejection] | None = None
) -> Iterator[Sample]:
    """Give the samples of a labelled set in its order; a row that repeats another is dropped.

    Holds the ids of all samples and the bytes of one batch of rows. A set that is measured on must be sound: its first
    bad row raises PoolError with file, row and what is wrong. A set that is learned from may have bad rows: with
    `refused` each of them becomes a Rejection in it (gate `row`) and the others are given. A set without a sample
    raises either way. What a format leaves out by its nature (no image, another split, further turns) is counted in the
    log.
    """
    plain, split = _split_of(source)
    seen: set[str] = set()
    repeated = 0
    for path in _files(plain):
        reading = Reading(path, split)
        for number, row in enumerate(_rows(reading, store)):
            try:
                sample = _sample(row, path, store, provenance)
            except PoolError as error:
                if refused is None or isinstance(error, PoolUnreachable):
                    raise
                refused.append(Rejection(number, "row", str(error)))
                continue
            for told in _misread(frozenset(row.fields)):
                reading.leave_out(told)
            if sample.id in seen:
                repeated += 1
            else:
                seen.add(sample.id)
                yield sample
        for reason, count in sorted(reading.left_out.items()):
            log.warning("%s: %d rows %s", path, count, reason)
    if not seen:
        why = f"; {len(refused)} rows cannot be used, such as {refused[0].reason}" if refused else ""
        raise PoolError(
            f"{source}: holds no sample; give rows with image, question and answer, and a split that it has{why}"
        )
    if repeated:
        log.warning("%s: %d of %d rows repeat another and were dropped", source, repeated, len(seen) + repeated)


@cache
def _misread(keys: frozenset[str]) -> tuple[str, ...]:
    """What to say of keys that nobody reads and that are nearly ones that are missing."""
    near = {key: get_close_matches(key, KEYS - keys, 1, MISSPELT) for key in sorted(keys - KEYS)}
    return tuple(f"with a key {key!r} that is not read; is {known[0]} meant?" for key, known in near.items() if known)


def _split_of(source: str) -> tuple[str, str]:
    path, sign, split = source.rpartition("#")
    return (path, split) if sign and split.replace("_", "").isalnum() else (source, "")


def _files(source: str) -> list[str]:
    files = list_files(source, KINDS)
    for kind in KINDS:
        if same := [path for path in files if path.lower().endswith(kind)]:
            return [path for path in same if PurePosixPath(path).name == SCIENCEQA] or same
    is_csv = [path for path in files or list_files(source, (".csv",)) if path.lower().endswith(".csv")]
    hint = f": {NO_CSV}" if is_csv else ""
    raise PoolError(f"{source}: has no {', '.join(KINDS)}{hint}")


def _rows(reading: Reading, store: ImageStore) -> Iterator[LabelledRow]:
    match PurePosixPath(reading.path).suffix.lower():
        case ".parquet":
            return read_parquet(reading)
        case ".jsonl":
            return read_jsonl(reading)
        case ".tsv":
            return read_tsv(reading, store)
        case ".json":
            return read_json(reading)
    raise PoolError(f"{reading.path}: is none of {', '.join(KINDS)}")


def _sample(row: LabelledRow, path: str, store: ImageStore, provenance: str) -> Sample:
    """Check and store one row. Raises PoolError with file and row."""
    with placed(row.where):
        if row.error:
            raise PoolError(row.error)
        return _checked(row.fields, path, store, provenance)


def _checked(row: Mapping[str, Any], path: str, store: ImageStore, provenance: str) -> Sample:
    options = tuple(str(option) for option in list_of(row, "options"))
    category = str(row.get("category") or NO_CATEGORY).strip()
    if "/" in category:
        raise PoolError(f"category {category!r} must not hold a slash: cells are written category/skill")
    cells = list_of(row, "images") or ([row["image"]] if row.get("image") else [])
    if not cells:
        raise PoolError(f"has no image{meant(row, 'image')}")
    question, answer = text_of(row, "question"), answer_of(row, options)
    return Sample(
        images=tuple(cell if isinstance(cell, ImageRef) else stored(cell, path, store) for cell in cells),
        question=question,
        answer=answer,
        options=options,
        rationale=str(row.get("rationale") or ""),
        category=category,
        skills=tuple(str(skill) for skill in list_of(row, "skills")),
        provenance=Provenance(provenance),
    )
