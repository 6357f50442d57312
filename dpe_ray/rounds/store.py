"""The run directory: what was resolved, made, decided and measured. Every file is written whole or not at all.

A stage is done when `stages.json` of its round names it; that file is written after the stage's own files, so a
stage that was cut off is run again and one that finished is loaded.
"""

import inspect
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from dpe_ray.errors import StoreError
from dpe_ray.rounds.resolved import changes, completed
from dpe_ray.rounds.schemas import REJECTED, SAMPLES, VERDICTS
from dpe_ray.types import Graded, Rejection, Sample, Verdict, VerdictKind

T = TypeVar("T")
PACKAGES = ("dpe-ray", "ray", "torch", "transformers", "peft", "openai", "pyarrow", "pillow", "numpy")


@dataclass(frozen=True)
class Stage(Generic[T]):
    """A named step of a round and how its result is kept."""

    name: str
    save: Callable[[T], None]
    load: Callable[[], T]


def write_text(path: Path, text: str) -> None:
    """Write through a temporary neighbour and a rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_table(path: Path, table: pa.Table) -> None:
    """As `write_text`, for parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part)
    part.replace(path)


class RunFolder:
    """RUN/: config.json, summary.json, journal/, images/, ledger.jsonl, rounds/NN/, report.html."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any], *, fresh: bool = False) -> "RunFolder":
        """Begin a run, or go on with one; `fresh` moves an old one aside.

        A run that asked and made nothing yet takes any config, another one only changes that are operational; these are
        noted in config.json. Raises StoreError with the first difference else, or where no directory can be made.
        """
        run = cls(path)
        try:
            if fresh and run.config_file.exists():
                path.rename(path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}"))
            path.mkdir(parents=True, exist_ok=True)
            run._settle(config)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"{path}: no run can be kept here ({error.strerror}); give another --run-dir") from error
        return run

    @property
    def config_file(self) -> Path:
        """RUN/config.json."""
        return self.path / "config.json"

    @property
    def images(self) -> Path:
        """RUN/images, content-addressed."""
        return self.path / "images"

    def config(self) -> dict[str, Any]:
        """The resolved config of this run. Raises StoreError when there is none."""
        tree = self._read("config.json")
        if not isinstance(tree.get("config"), dict):
            raise StoreError(f"{self.config_file}: is damaged (no config in it)")
        return dict(tree["config"])

    def summary(self) -> dict[str, Any]:
        """summary.json. Raises StoreError when there is none."""
        return self._read("summary.json")

    def write_summary(self, tree: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        write_text(self.path / "summary.json", json.dumps(tree, indent=2) + "\n")

    def amend_summary(self, **parts: Any) -> None:
        """Replace some keys of summary.json."""
        self.write_summary({**self.summary(), **parts})

    def has_summary(self) -> bool:
        """Whether summary.json was written."""
        return (self.path / "summary.json").exists()

    def journal(self, stage: str) -> Path:
        """Folder of one stage's journal; the stage name begins with the round, as `01-supply`."""
        return self.path / "journal" / stage

    def round(self, index: int) -> "StageFolder":
        """RUN/rounds/NN."""
        return StageFolder(self.path / "rounds" / f"{index:02d}")

    def final(self) -> "StageFolder":
        """RUN/final: the verdicts of base and kept policy on the final suites."""
        return StageFolder(self.path / "final")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            tree = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{self.path}: no run here ({name} is missing); give the directory of a run") from None
        except OSError as error:
            raise StoreError(f"{self.path / name}: cannot be read ({error.strerror}); check its rights") from error
        except ValueError as error:
            raise StoreError(f"{self.path / name}: is damaged ({error})") from error
        if not isinstance(tree, dict):
            raise StoreError(f"{self.path / name}: is damaged (no object)")
        return tree

    def _settle(self, config: Mapping[str, Any]) -> None:
        packages = {name: _installed(name) for name in PACKAGES}
        tree = {"config": dict(config), "packages": packages, "git_commit": _git_commit()}
        if self.config_file.exists() and self._has_begun():
            differing = changes(completed(self.config()), config)
            binding = [change for change in differing if not change.is_operational]
            if binding:
                more = f" (+{len(binding) - 1} more)" if len(binding) > 1 else ""
                raise StoreError(
                    f"{self.path}: holds a run with another config: {binding[0]}{more}; "
                    "use --fresh to move it aside, or another --run-dir"
                )
            if not differing:
                return
            earlier = self._read("config.json")
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            noted = [{"at": at, **asdict(change)} for change in differing]
            tree = {**earlier, "config": dict(config), "changes": earlier.get("changes", []) + noted}
        write_text(self.config_file, json.dumps(tree, indent=2) + "\n")

    def _has_begun(self) -> bool:
        """Whether a call was made or a stage finished under the config that stands here."""
        return any(self.path.glob("journal/*/*")) or any(self.path.glob("rounds/*/*"))


class StageFolder:
    """The results of the stages of one round."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = path / "tracking" / "metrics.jsonl"
        """One line a training step, written by the training itself."""

    async def step(self, stage: Stage[T], produce: Callable[[], Awaitable[T] | T]) -> T:
        """Load the stage when it is done, else run it, keep its result and note its wall seconds."""
        if stage.name in (done := self.seconds()):
            return stage.load()
        started = time.monotonic()
        made = produce()
        result: T = await made if inspect.isawaitable(made) else made
        stage.save(result)
        self.note({**done, stage.name: time.monotonic() - started})
        return result

    def note(self, done: Mapping[str, float]) -> None:
        """Keep which stages are done, with their wall seconds."""
        write_text(self.path / "stages.json", json.dumps(dict(done)))

    def seconds(self) -> dict[str, float]:
        """Wall seconds of every finished stage."""
        file = self.path / "stages.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def save_json(self, name: str, value: object) -> None:
        """A dataclass as NAME.json."""
        text = TypeAdapter(type(value)).dump_json(value, indent=2).decode()
        write_text(self.path / f"{name}.json", text + "\n")

    def load_json(self, name: str, kind: type[T]) -> T:
        """A dataclass from NAME.json."""
        return TypeAdapter(kind).validate_json((self.path / f"{name}.json").read_bytes())

    def has(self, name: str) -> bool:
        """Whether NAME.json was written."""
        return (self.path / f"{name}.json").exists()

    def save_samples(self, samples: Sequence[Sample]) -> None:
        """samples.parquet."""
        write_table(self.path / "samples.parquet", pa.Table.from_pylist([_row(s) for s in samples], SAMPLES))

    def load_samples(self) -> tuple[Sample, ...]:
        """From samples.parquet."""
        return tuple(_sample(row) for row in pq.read_table(self.path / "samples.parquet").to_pylist())

    def save_rejected(self, rejections: Sequence[Rejection]) -> None:
        """rejected.parquet: the sample's columns as far as it got, with slot, gate, reason and cell."""
        rows = [
            {**(_row(r.sample) if r.sample else {}), "slot": r.slot, "gate": r.gate, "reason": r.reason, "cell": r.cell}
            for r in rejections
        ]
        write_table(self.path / "rejected.parquet", pa.Table.from_pylist(rows, REJECTED))

    def load_rejected(self) -> tuple[Rejection, ...]:
        """From rejected.parquet."""
        rows = pq.read_table(self.path / "rejected.parquet").to_pylist()
        return tuple(
            Rejection(row["slot"], row["gate"], row["reason"], row["cell"], _sample(row) if row["id"] else None)
            for row in rows
        )

    def save_verdicts(self, name: str, graded: Sequence[Graded]) -> None:
        """Put the set `name` (probe, before, after, base, final) into verdicts.parquet, replacing an older one."""
        file = self.path / "verdicts.parquet"
        kept = [row for row in self._verdict_rows() if row["set"] != name]
        rows = [
            {
                "set": name,
                "item": g.sample.id,
                "category": g.sample.category,
                "image": g.sample.images[0].sha256 if g.sample.images else "",
                "answer": g.text,
                "verdict": g.verdict.kind.value,
                "grader": g.verdict.grader,
                "reason": g.verdict.reason,
            }
            for g in graded
        ]
        write_table(file, pa.Table.from_pylist(kept + rows, VERDICTS))

    def load_verdicts(self, name: str, samples: Mapping[str, Sample]) -> tuple[Graded, ...]:
        """The set `name`, joined with its samples by item id."""
        return tuple(
            Graded(
                samples[row["item"]], row["answer"], Verdict(VerdictKind(row["verdict"]), row["grader"], row["reason"])
            )
            for row in self._verdict_rows()
            if row["set"] == name
        )

    def _verdict_rows(self) -> list[dict[str, Any]]:
        file = self.path / "verdicts.parquet"
        return pq.read_table(file).to_pylist() if file.exists() else []


def _row(sample: Sample) -> dict[str, Any]:
    return {"id": sample.id, **asdict(sample)}


_SAMPLE: TypeAdapter[Sample] = TypeAdapter(Sample)


def _sample(row: dict[str, Any]) -> Sample:
    return _SAMPLE.validate_python({key: row[key] for key in Sample.__dataclass_fields__})


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str:
    """Of the working folder, read from .git itself; empty outside a checkout."""
    head = Path(".git/HEAD")
    if not head.exists():
        return ""
    text = head.read_text(encoding="utf-8").strip()
    ref = Path(".git") / text.removeprefix("ref: ")
    return ref.read_text(encoding="utf-8").strip() if text.startswith("ref: ") and ref.exists() else text
