"""The trackers by name. Each imports its package when it is opened; keys come from the environment alone.

A training that goes on after a death is the same run of W&B and MLflow: RUN_IDS in its folder holds their ids.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from dpe_ray.models.images import read_bytes
from dpe_ray.train.tracking.shown import Shown
from dpe_ray.types import ImageRef

RUN_IDS = "run_ids.json"


@dataclass(frozen=True)
class TrackingSettings:
    """What is tracked, and where."""

    to: tuple[str, ...] = ()
    """Of `TRACKERS`; files below `folder` are written always."""
    project: str = "dpe_ray"
    """W&B's project, MLflow's experiment."""
    name: str = ""
    """Of this training, such as RUN-round-01."""
    group: str = ""
    """What the trainings of a run have in common: its name."""
    folder: str = ""
    completions: int = 4
    """Completions shown of every step."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What the training was told, to be kept beside its numbers."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further arguments by tracker: of `wandb.init`, `mlflow.start_run`, `SummaryWriter`."""


class Tracker(Protocol):
    """Takes the numbers of a training, step by step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of a finished step, counted from 1."""
        ...

    def show(self, step: int, shown: Sequence[Shown]) -> None:
        """Keep some completions of a step."""
        ...

    def close(self, *, failed: bool) -> None:
        """Write what is held back, and how the training ended where that is kept."""
        ...


class LinesTracker:
    """metrics.jsonl and completions.jsonl, one line a step or a completion.

    A training that goes on appends; lines of steps that are made again, told before their weights were kept, go.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self._folder = Path(settings.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._begun: set[str] = set()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Tracker.log`."""
        self._append("metrics.jsonl", step, metrics)

    def show(self, step: int, shown: Sequence[Shown]) -> None:
        """As `Tracker.show`; an image is named by its path."""
        for one in shown:
            line = asdict(one) | {"images": [image.uri for image in one.images]}
            self._append("completions.jsonl", step, line)

    def close(self, *, failed: bool) -> None:
        """Nothing is held back."""

    def _append(self, name: str, step: int, line: Mapping[str, Any]) -> None:
        file = self._folder / name
        if name not in self._begun:
            self._begun.add(name)
            _forget(file, step)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": step, **line}, ensure_ascii=False) + "\n")


class TensorBoardTracker:
    """Event files in `folder`/tensorboard, or where the option `logdir` says."""

    def __init__(self, settings: TrackingSettings) -> None:
        from tensorboardX import SummaryWriter

        place = {"logdir": str(Path(settings.folder) / "tensorboard")}
        self._writer = SummaryWriter(**place | dict(settings.options.get("tensorboard", {})))
        self._writer.add_text("config", _preformatted(json.dumps(settings.config, indent=2, default=str)), 0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Tracker.log`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def show(self, step: int, shown: Sequence[Shown]) -> None:
        """As `Tracker.show`."""
        for number, one in enumerate(shown, 1):
            self._writer.add_text(f"completions/{number}", _preformatted(_told(one)), step)
            for at, image in enumerate(one.images, 1):
                self._writer.add_image(f"completions/{number}/image_{at}", _pixels(image), step, dataformats="HWC")

    def close(self, *, failed: bool) -> None:
        """As `Tracker.close`."""
        self._writer.close()


class WandbTracker:
    """A run of `project`; trainings of one run share its group. WANDB_MODE, WANDB_API_KEY and the like hold."""

    def __init__(self, settings: TrackingSettings) -> None:
        import wandb

        self._wandb = wandb
        named = {"project": settings.project, "name": settings.name, "group": settings.group, "dir": settings.folder}
        told: dict[str, Any] = {"config": dict(settings.config), "settings": wandb.Settings(silent=True)}
        told |= {"id": run_id(settings, "wandb", lambda: uuid4().hex[:8]), "resume": "allow"}
        self._run = wandb.init(**named | told | dict(settings.options.get("wandb", {})))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Tracker.log`."""
        self._run.log(dict(metrics), step=step)

    def show(self, step: int, shown: Sequence[Shown]) -> None:
        """As `Tracker.show`: a table, and the pictures by its row."""
        rows = [[n, one.prompt, one.answer, one.completion, one.reward] for n, one in enumerate(shown, 1)]
        table = self._wandb.Table(columns=["row", "prompt", "answer", "completion", "reward"], data=rows)
        images = [
            self._wandb.Image(_pixels(image), caption=f"row {n}")
            for n, one in enumerate(shown, 1)
            for image in one.images
        ]
        self._run.log({"completions": table, "completions/images": images}, step=step)

    def close(self, *, failed: bool) -> None:
        """As `Tracker.close`."""
        self._run.finish(exit_code=int(failed))


class MlflowTracker:
    """A run of the experiment `project`, at the option `tracking_uri` or MLFLOW_TRACKING_URI."""

    def __init__(self, settings: TrackingSettings) -> None:
        from mlflow import MlflowClient

        options = dict(settings.options.get("mlflow", {}))
        self._client = MlflowClient(tracking_uri=options.pop("tracking_uri", None))
        experiment = self._client.get_experiment_by_name(settings.project)
        place = experiment.experiment_id if experiment else self._client.create_experiment(settings.project)
        tags = {"group": settings.group} | {str(key): str(value) for key, value in options.items()}
        self._run = run_id(
            settings,
            "mlflow",
            lambda: str(self._client.create_run(place, run_name=settings.name, tags=tags).info.run_id),
        )
        self._client.update_run(self._run, status="RUNNING")
        self._client.log_dict(self._run, json.loads(json.dumps(settings.config, default=str)), "config.json")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Tracker.log`."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=step)

    def show(self, step: int, shown: Sequence[Shown]) -> None:
        """As `Tracker.show`: files of the run."""
        for number, one in enumerate(shown, 1):
            self._client.log_text(self._run, _told(one), f"completions/{step:05d}-{number}.txt")
            for at, image in enumerate(one.images, 1):
                name = f"completions/{step:05d}-{number}-{at}.png"
                self._client.log_image(self._run, _pixels(image), name)

    def close(self, *, failed: bool) -> None:
        """As `Tracker.close`."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


TRACKERS: dict[str, tuple[str, Callable[[TrackingSettings], Tracker]]] = {
    "tensorboard": ("tensorboardX", TensorBoardTracker),
    "wandb": ("wandb", WandbTracker),
    "mlflow": ("mlflow", MlflowTracker),
}
"""Name to the package that it needs and how it is opened."""


def run_id(settings: TrackingSettings, tracker: str, make: Callable[[], str]) -> str:
    """What a tracker calls the run of this training: made when it first begins, and kept."""
    file = Path(settings.folder) / RUN_IDS
    ids: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if tracker not in ids:
        ids[tracker] = make()
        _write(file, json.dumps(ids))
    return ids[tracker]


def _forget(file: Path, step: int) -> None:
    """Remove the lines of this step and of later ones, and those that a death tore."""
    if not file.exists():
        return
    text = file.read_text(encoding="utf-8")
    kept = "".join(f"{line}\n" for line in text.split("\n") if _step(line) < step)
    if kept != text:
        _write(file, kept)


def _step(line: str) -> float:
    """Of a line; infinite for one that was torn."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _write(file: Path, text: str) -> None:
    draft = file.with_name(file.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, file)


def _told(one: Shown) -> str:
    head = f"sample {one.sample}, policy v{one.policy_version}, reward {one.reward:.3f}, right answer: {one.answer}"
    return f"{head}\n\n{one.prompt}\n\n---\n\n{one.completion}"


def _preformatted(text: str) -> str:
    """Markdown that shows a text as it is: models write anything."""
    return "\n".join("    " + line for line in text.splitlines())


def _pixels(image: ImageRef) -> Any:
    """[H, W, 3] uint8."""
    import numpy as np

    from dpe_ray.models.images import decode

    return np.asarray(decode(read_bytes(image)).convert("RGB"))
