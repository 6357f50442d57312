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
from pathlib import PurePosixPath
from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import answer_of, list_of, placed, text_of
from dpe_ray.pool.formats.documents import read_json
from dpe_ray.pool.formats.rows import LabelledRow, Reading, read_jsonl, read_parquet
from dpe_ray.pool.formats.vlmevalkit import read_tsv
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.readers import cell_bytes, list_files
from dpe_ray.types import ImageRef, Provenance, Sample

NO_CATEGORY = "mixed"
"""Category of a row that states none, as in DPE's list."""
KINDS = (".parquet", ".jsonl", ".tsv", ".json")
SCIENCEQA = "problems.json"
"""Of a folder's JSON files only this one is read where it is: its neighbours are lists of ids and captions."""

log = logging.getLogger(__name__)


def read_samples(source: str, store: ImageStore, *, provenance: str = "support") -> tuple[Sample, ...]:
    """Read a labelled set in its order, as `stream_samples` does, into memory; images stay in the store."""
    return tuple(stream_samples(source, store, provenance=provenance))


def stream_samples(source: str, store: ImageStore, *, provenance: str = "support") -> Iterator[Sample]:
    """Give the samples of a labelled set in its order; a row that repeats another is dropped.

    Holds the ids of all samples and the bytes of one batch of rows. A set that is measured on must be sound, so the
    first bad row raises PoolError with file, row and what is wrong; so does an empty set. What a format leaves out by
    its nature (no image, another split, further turns) is counted in the log.
    """
    plain, split = _split_of(source)
    seen: set[str] = set()
    repeated = 0
    for path in _files(plain):
        reading = Reading(path, split)
        for row in _rows(reading, store):
            with placed(row.where):
                sample = _sample(row.fields, path, store, provenance)
            if sample.id in seen:
                repeated += 1
            else:
                seen.add(sample.id)
                yield sample
        for reason, count in sorted(reading.left_out.items()):
            log.warning("%s: %d rows %s", path, count, reason)
    if not seen:
        raise PoolError(
            f"{source}: holds no sample; give rows with image, question and answer, and a split that it has"
        )
    if repeated:
        log.warning("%s: %d of %d rows repeat another and were dropped", source, repeated, len(seen) + repeated)


def _split_of(source: str) -> tuple[str, str]:
    path, sign, split = source.rpartition("#")
    return (path, split) if sign and split.replace("_", "").isalnum() else (source, "")


def _files(source: str) -> list[str]:
    files = list_files(source, KINDS)
    for kind in KINDS:
        if same := [path for path in files if path.lower().endswith(kind)]:
            return [path for path in same if PurePosixPath(path).name == SCIENCEQA] or same
    return files


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


def _sample(row: Mapping[str, Any], path: str, store: ImageStore, provenance: str) -> Sample:
    options = tuple(str(option) for option in list_of(row, "options"))
    category = str(row.get("category") or NO_CATEGORY).strip()
    if "/" in category:
        raise PoolError(f"category {category!r} must not hold a slash: cells are written category/skill")
    cells = list_of(row, "images") or ([row["image"]] if row.get("image") else [])
    if not cells:
        raise PoolError("has no image")
    question, answer = text_of(row, "question"), answer_of(row, options)
    return Sample(
        images=tuple(cell if isinstance(cell, ImageRef) else store.put(cell_bytes(cell, path)) for cell in cells),
        question=question,
        answer=answer,
        options=options,
        rationale=str(row.get("rationale") or ""),
        category=category,
        skills=tuple(str(skill) for skill in list_of(row, "skills")),
        provenance=Provenance(provenance),
    )
