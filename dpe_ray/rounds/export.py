"""A run's accepted samples in the forms that other trainers read.

| format | file | images |
| --- | --- | --- |
| messages | JSONL of `messages` with `<image>` in the text, and `images` | files beside it |
| verl | parquet of `prompt`, `reward_model` and so on (verl), and `problem`, `answer` (EasyR1) | in the table |
| llava | JSON list of `{id, image, conversations}` | files beside it |
| openai | JSONL of chat `messages` with image parts | data URIs |

The user's words are the answer prompt under which we train and measure; in EasyR1's `problem` and in LLaVA's JSON,
where the trainer adds its own, question and options alone. The reply is the rationale, closed by the answer line.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from mimetypes import guess_extension
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpe_ray.errors import ConfigError, StoreError
from dpe_ray.grading.prompt import answer_prompt, lettered_options
from dpe_ray.models.images import data_uri, read_bytes
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import ImageRef, Sample

IMAGE_TOKEN = "<image>"
BATCH = 64
"""Samples of a row group of the parquet file, whose images are in memory at once."""

Row = dict[str, Any]

_TEXTS = pa.list_(pa.string())
VERL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64()), ("id", pa.string())])),
        *((name, pa.string()) for name in ("problem", "question", "answer", "kind", "category", "rationale")),
        *((name, _TEXTS) for name in ("options", "aliases", "skills")),
        ("tolerance", pa.float64()),
    ]
)
"""verl's columns (its examples/data_preprocess/geo3k.py), EasyR1's, and ours, so that we read the file back."""


@dataclass(frozen=True)
class Export:
    """Where samples come from and where they go."""

    run: RunFolder
    out: Path

    def data(self, image: ImageRef) -> bytes:
        """The bytes of an image, from the run where it has them: a run may have been moved. Raises PoolError."""
        own = self.run.images / image.sha256
        return read_bytes(str(own) if own.exists() else image)

    def beside(self, image: ImageRef) -> str:
        """Copy an image into the folder beside the file, whole or not at all; returns its path from there."""
        folder = _folder_beside(self.out)
        file = folder / f"{image.sha256}{guess_extension(image.media_type) or ''}"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = file.with_name(file.name + ".part")
            part.write_bytes(self.data(image))
            part.replace(file)
        return f"{folder.name}/{file.name}"

    def uri(self, image: ImageRef) -> str:
        """The image as a data URI."""
        return data_uri(self.data(image), image.media_type)


def export_run(run: RunFolder, format_: str, out: Path) -> int:
    """Write the accepted samples of all rounds, each once; returns how many. The file appears whole.

    Raises ConfigError for a format that there is not, StoreError for a run without samples or a place that cannot be
    written, PoolError when an image is gone.
    """
    if format_ not in _WRITERS:
        raise ConfigError(f"format {format_!r}: there are {', '.join(_WRITERS)}")
    samples = {sample.id: sample for sample in _accepted(run)}
    if not samples:
        raise StoreError(f"{run.path}: no round has accepted samples yet; run it, or give another run")
    part = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[format_](Export(run, out), samples.values(), part)
        part.replace(out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror}); check space and rights") from error
    return len(samples)


def written(format_: str, out: Path) -> str:
    """What lies in `out` after an export, in a few words; a name that says otherwise is told."""
    form, suffix, images = _FORMS[format_]
    hint = "" if out.suffix == suffix else f"; readers expect a name in {suffix}"
    return f"{form}, pictures {images.format(folder=_folder_beside(out).name)}{hint}"


def _folder_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}_images")


def _accepted(run: RunFolder) -> Iterator[Sample]:
    for index in count(1):
        folder = run.round(index)
        if not folder.path.exists():
            return
        if (folder.path / "samples.parquet").exists():
            yield from folder.load_samples()


def reply_of(sample: Sample) -> str:
    """What a policy should say: the rationale, if there is one, and the answer line."""
    line = f"answer: {sample.answer.value}"
    return sample.rationale if sample.rationale.endswith(line) else f"{sample.rationale}\n{line}".strip()


def question_of(sample: Sample) -> str:
    """Question and lettered options, without a word about the form of the answer."""
    return "\n".join([sample.question, *(f"({letter}) {option}" for letter, option in lettered_options(sample))])


def _messages(export: Export, sample: Sample) -> Row:
    asked = IMAGE_TOKEN * len(sample.images) + answer_prompt(sample).text
    return {
        "id": sample.id,
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": reply_of(sample)}],
        "images": [export.beside(image) for image in sample.images],
    }


def _openai(export: Export, sample: Sample) -> Row:
    pictures = [{"type": "image_url", "image_url": {"url": export.uri(image)}} for image in sample.images]
    asked = [*pictures, {"type": "text", "text": answer_prompt(sample).text}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": reply_of(sample)}]}


def _llava(export: Export, sample: Sample) -> Row:
    images = [export.beside(image) for image in sample.images]
    asked = f"{IMAGE_TOKEN}\n" * len(images) + question_of(sample)
    said = reply_of(sample) if sample.rationale else sample.answer.value
    return {
        "id": sample.id,
        "image": images[0] if len(images) == 1 else images,
        "category": sample.category,
        "skills": list(sample.skills),
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}],
    }


def _verl(export: Export, sample: Sample, source: str, index: int) -> Row:
    tokens = IMAGE_TOKEN * len(sample.images)
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": tokens + answer_prompt(sample).text}],
        "images": [{"bytes": export.data(image), "path": None} for image in sample.images],
        "ability": "vision",
        "reward_model": {"style": "rule", "ground_truth": sample.answer.value},
        "extra_info": {"split": "train", "index": index, "id": sample.id},
        "problem": tokens + question_of(sample),
        "question": sample.question,
        "options": list(sample.options),
        "answer": sample.answer.value,
        "kind": sample.answer.kind.value,
        "aliases": list(sample.answer.aliases),
        "tolerance": sample.answer.tolerance,
        "category": sample.category,
        "skills": list(sample.skills),
        "rationale": sample.rationale,
    }


def _write_lines(row_of: Callable[[Export, Sample], Row]) -> "Writer":
    def write(export: Export, samples: Iterable[Sample], part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            for sample in samples:
                file.write(json.dumps(row_of(export, sample), ensure_ascii=False) + "\n")

    return write


def _write_list(export: Export, samples: Iterable[Sample], part: Path) -> None:
    with part.open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples):
            file.write(",\n" if number else "[\n")
            file.write(json.dumps(_llava(export, sample), ensure_ascii=False))
        file.write("\n]\n")


def _write_parquet(export: Export, samples: Iterable[Sample], part: Path) -> None:
    source = str(export.run.config()["name"])
    rows: Iterator[Row] = (_verl(export, sample, source, index) for index, sample in enumerate(samples))
    with pq.ParquetWriter(part, VERL) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, VERL))


_FORMS = {
    "messages": ("JSONL", ".jsonl", "in {folder}/"),
    "verl": ("parquet", ".parquet", "in the table"),
    "llava": ("a JSON list", ".json", "in {folder}/"),
    "openai": ("JSONL", ".jsonl", "as data URIs in the lines"),
}
"""What a format writes, the suffix that its readers expect, and where the pictures are."""
Writer = Callable[[Export, Iterable[Sample], Path], None]
_WRITERS: dict[str, Writer] = {
    "messages": _write_lines(_messages),
    "verl": _write_parquet,
    "llava": _write_list,
    "openai": _write_lines(_openai),
}
