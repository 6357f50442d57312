"""inspect_ai's logs (inspect.aisi.org.uk/eval-logs.html): `.eval`, a zip with one JSON per sample, and `.json`.

A sample states `input` (text or messages), `choices`, `target` (the letters of choices, else texts of which each is
right), `output`, `scores`, `metadata` and `error`. Category and skills come from its metadata; else the task is the
category.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar
from zipfile import BadZipFile, ZipFile

from pydantic import BaseModel, Field, ValidationError

from dpe_ray.diagnose.responses.archive import read_member
from dpe_ray.diagnose.responses.response import CATEGORY_KEYS, Response, fraction, make_response
from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import LETTERS, placed

M = TypeVar("M", bound=BaseModel)
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect_ai's letters: correct, partial, incorrect, no answer."""
UNSCORED = ("grader_failed", "scoring_failed")
"""Reasons of a score that says nothing about the answer."""
ATTACHMENT = "attachment://"
"""Begins what stands for a long text or a picture that is kept apart."""
HEADERS = ("header.json", "_journal/start.json")
"""What names the task; of a log that was cut off there is the second alone."""


class _Part(BaseModel):
    type: str
    text: str = ""


class _Message(BaseModel):
    role: str
    content: str | list[_Part] = ""


class _Choice(BaseModel):
    message: _Message


class _Output(BaseModel):
    choices: list[_Choice] = []
    error: str | None = None


class _Score(BaseModel):
    value: Any = None
    reason: str | None = None


class _Error(BaseModel):
    message: str = "error"


class _Sample(BaseModel):
    """What is read of a sample; all else in it is skipped."""

    id: int | str = ""
    input: str | list[_Message]
    choices: list[str] | None = None
    target: str | list[str]
    output: _Output = _Output()
    scores: dict[str, _Score] | None = None
    metadata: dict[str, Any] = {}
    error: _Error | None = None
    invalidation: dict[str, Any] | None = None
    attachments: dict[str, str] = {}


class _Spec(BaseModel):
    task: str = ""


class _Header(BaseModel):
    eval: _Spec = Field(default_factory=_Spec)


class _Log(_Header):
    """A log as one document, its samples not yet looked at."""

    samples: list[dict[str, Any]] | None = None


def read_eval(path: Path, file: IO[bytes]) -> Iterator[Response]:
    """Answers of a `.eval` file, one sample in memory at a time. Raises PoolError with file and sample."""
    try:
        archive = ZipFile(file)
    except BadZipFile as error:
        raise PoolError(f"{path}: is no readable .eval file ({error}); copy the log anew") from error
    with archive:
        members = {member.filename: member for member in archive.infolist()}
        names = [name for name in members if name.startswith("samples/") and name.endswith(".json")]
        header = next((members[name] for name in HEADERS if name in members), None)
        task = _task(_checked(_Header, path, read_member(path, file, archive, header))) if header else ""
        for name in names:
            if name.count("/") > 1:
                told = f"{path}: {name} is one part of a sample; write whole samples"
                raise PoolError(f"{told} with `inspect log convert --to eval`")
            content = read_member(path, file, archive, members[name])
            yield _response(f"{path} {name}", _checked(_Sample, f"{path} {name}", content), task)
    _require(names, path)


def read_log(path: Path, document: Mapping[str, Any]) -> Iterator[Response]:
    """Answers of a log that is one JSON document. Raises PoolError with file and sample."""
    log = _checked(_Log, path, document)
    _require(log.samples, path)
    for number, sample in enumerate(log.samples or (), start=1):
        where = f"{path} sample {sample.get('id', number)}"
        yield _response(where, _checked(_Sample, where, sample), _task(log))


def is_log(document: Any) -> bool:
    """Whether a JSON document is a log of inspect_ai."""
    return isinstance(document, dict) and isinstance(document.get("eval"), dict) and "status" in document


def _response(where: str, sample: _Sample, task: str) -> Response:
    told = sample.metadata
    item = {
        "id": str(sample.id),
        "question": _said(sample.input, sample, "user"),
        "options": sample.choices,
        "answer": _letters(sample.target, sample.choices or ()),
        "category": next((told[key] for key in CATEGORY_KEYS if told.get(key)), task),
        "skills": told["skills"] if isinstance(told.get("skills"), list) else None,
    }
    answered = [choice.message for choice in sample.output.choices[:1]]
    said = _said(answered, sample, "assistant") if answered else None
    with placed(where):
        return make_response(item, said, score=_score(sample), outage=_outage(sample))


def _letters(target: str | list[str], choices: Sequence[str]) -> str | list[str]:
    """Letters of several choices may be written as one text, such as `AC`."""
    if isinstance(target, list) or len(target) < 2 or target in choices:
        return target
    return list(target) if set(target) <= set(LETTERS[: len(choices)]) else target


def _outage(sample: _Sample) -> str:
    """What ended the sample before it was answered, or took the answer back; empty where nothing did."""
    if sample.error:
        return sample.error.message
    return "the sample was invalidated" if sample.invalidation else sample.output.error or ""


def _said(content: str | Sequence[_Message], sample: _Sample, role: str) -> str:
    """The texts of an input or of a role's messages. Pictures and hidden reasoning leave nothing."""
    if isinstance(content, str):
        return _attached(content, sample)
    parts: list[str] = []
    for message in content:
        if message.role == role:
            own = message.content
            parts += [own] if isinstance(own, str) else [part.text for part in own if part.type == "text"]
    return "\n".join(_attached(part, sample) for part in parts)


def _attached(text: str, sample: _Sample) -> str:
    return sample.attachments.get(text.removeprefix(ATTACHMENT), text) if text.startswith(ATTACHMENT) else text


def _score(sample: _Sample) -> float | None:
    """What the first scorer gave, 0-1."""
    first = next(iter((sample.scores or {}).values()), None)
    if first is None or first.reason in UNSCORED:
        return None
    return GRADES[first.value] if isinstance(first.value, str) and first.value in GRADES else fraction(first.value)


def _task(header: _Header) -> str:
    return header.eval.task.rpartition("/")[2]


def _checked(form: type[M], where: object, content: bytes | Mapping[str, Any]) -> M:
    try:
        return form.model_validate_json(content) if isinstance(content, bytes) else form.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PoolError(f"{where}: is not as inspect_ai writes it ({key}: {first['msg']})") from error


def _require(samples: object, path: Path) -> None:
    if not samples:
        raise PoolError(f"{path}: holds no samples; inspect_ai keeps them unless it is told --no-log-samples")
