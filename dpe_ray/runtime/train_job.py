"""Fine-tuning on Ray Train: every worker runs `train.methods.finetune`; Ray places it and restarts it.

No checkpoint is handed to Ray: the loop leaves its steps under `out`, which every node must reach, writes them while
the next step runs, and goes on from there after a restart, with as many workers as there then are.
"""

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from dpe_ray.config import TrainConfig
from dpe_ray.errors import ClusterError, ConfigError, DpeError, PoolError, TrainingError
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.ports import RolloutPool
from dpe_ray.runtime.daemon import in_daemon
from dpe_ray.runtime.serve_route import last_line
from dpe_ray.train.accepts import usable
from dpe_ray.train.metrics import Metrics
from dpe_ray.train.settings import ChainSettings, GrpoSettings, Settings, SftSettings
from dpe_ray.train.tracking.trackers import TrackingSettings
from dpe_ray.train.tracking.tracking import Tracking, Untold
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup, Sample, TrainResult

DEATHS = 2
"""Of workers in one training, after each of which all start anew; preempted nodes are not counted."""
LASTING = (ConfigError, PoolError, TrainingError)
"""Errors that the same workers would raise again."""


def method_settings(train: TrainConfig) -> Settings:
    """The part of a run's configuration that training is told, by `train.method`."""
    tree = train.model_dump()
    own = tree | tree["sft"]
    grpo = GrpoSettings(**{f.name: tree[f.name] for f in fields(GrpoSettings) if f.name in tree})
    sft = SftSettings(**{f.name: own[f.name] for f in fields(SftSettings) if f.name in own})
    by_method: dict[str, Settings] = {"grpo": grpo, "sft": sft, "chain": ChainSettings(sft, grpo)}
    return by_method[train.method]


@dataclass(frozen=True)
class TrainWork:
    """What travels to the workers."""

    policy: PolicyRef
    prompts: tuple[Prompt, ...]
    open_pool: Callable[[], RolloutPool]
    settings: Settings
    out: str
    seed: int
    torch_threads: int
    tracking: TrackingSettings


@dataclass(frozen=True)
class RayPolicyUpdater:
    """PolicyUpdater on Ray Train V2, data parallel over whole groups."""

    settings: Settings
    open_pool: Callable[[], RolloutPool]
    """Picklable; called once in every worker, such as `partial(ServeRolloutPool, "student")`."""
    storage: str
    """Where Ray Train keeps its own records: a path or URL that every node reaches."""
    workers: int | tuple[int, int] = 1
    """Least and most where their number may change."""
    num_cpus: float = 1.0
    """CPUs per worker."""
    use_gpu: bool = False
    num_gpus: float = 1.0
    """GPUs per worker, with `use_gpu`; below 1 where a worker shares one with an engine."""
    torch_threads: int = 1
    """Per worker."""
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    """Who is told of the steps. Name, folder and config are those of each training."""

    async def finetune(self, policy: PolicyRef, samples: Sequence[Sample], *, out: str, seed: int) -> TrainResult:
        """As `PolicyUpdater.finetune`. Raises the worker's own DpeError, or ClusterError when Ray could not go on."""
        prompts = tuple(answer_prompt(sample) for sample in samples)
        for stage in self.settings.stages:
            usable(stage, prompts)  # what no worker could train on must not cost their start
        out = os.path.abspath(out)
        tracking = self._tracking_of(out)
        work = TrainWork(policy, prompts, self.open_pool, self.settings, out, seed, self.torch_threads, tracking)
        return await in_daemon(partial(self._fit, work))

    def _tracking_of(self, out: str) -> TrackingSettings:
        """Beside the policy, under the name of the folder that holds both."""
        place = Path(out).parent
        name = f"{self.tracking.group}-{place.name}"
        return replace(self.tracking, name=name, folder=str(place / "tracking"), config=asdict(self.settings))

    def _fit(self, work: TrainWork) -> TrainResult:
        # Ray Train would move every worker into a folder of its own, and relative paths with it.
        os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
        # Ray fetches one report a poll, and a worker waits until its last one is fetched: no step would be faster.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        resources = {"CPU": self.num_cpus} | ({"GPU": self.num_gpus} if self.use_gpu else {})
        trainer = TorchTrainer(
            train_on_worker,
            train_loop_config={"work": work},
            torch_config=TorchConfig(backend="nccl" if self.use_gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=self.workers, use_gpu=self.use_gpu, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name=f"train-{uuid.uuid4().hex[:8]}",
                storage_path=self.storage,
                failure_config=ray.train.FailureConfig(max_failures=DEATHS),
                callbacks=[LastingErrorsEnd()],
                logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
            ),
        )
        try:
            result: TrainResult = trainer.fit().return_value
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise _own_error(error) from error
        return result


class LastingErrorsEnd(ray.train.UserCallback):
    """Ends a training at the first error that a restart would not mend; what a callback raises, Ray does not retry."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise it from the controller."""
        for error in map(_dpe_error, worker_exceptions.values()):
            if isinstance(error, LASTING):
                raise error


def train_on_worker(config: dict[str, Any]) -> TrainResult:
    """Run the loop as one rank of the process group that Ray Train has opened; `config` holds a TrainWork."""
    import torch
    from transformers.utils import logging

    from dpe_ray.train.methods import finetune
    from dpe_ray.train.world import distributed_world

    work: TrainWork = config["work"]
    torch.set_num_threads(work.torch_threads)
    logging.disable_progress_bar()  # a bar per saved step would fill the driver's console
    device = str(get_device())
    world = distributed_world(device)
    with Tracking(work.tracking) if world.rank == 0 else Untold() as tracking:

        def on_step(step: int, metrics: Metrics, groups: Sequence[RolloutGroup]) -> None:
            tracking.log(step, metrics, groups)
            ray.train.report({"step": step, **metrics})

        return finetune(
            work.policy,
            work.prompts,
            work.open_pool(),
            work.settings.on(device),
            out=work.out,
            seed=work.seed,
            world=world,
            on_step=on_step,
        )


def _own_error(error: BaseException) -> DpeError:
    """Find the DpeError that a worker raised, among those of all ranks."""
    failures = [*getattr(error, "worker_failures", {}).values(), error]
    if own := next(filter(None, map(_dpe_error, failures)), None):
        return own
    if any(isinstance(failure, ray.exceptions.OutOfMemoryError) for failure in failures):
        return ClusterError(
            "training: a worker was ended because its node ran out of memory; give it more, or lower "
            "train.micro_batch, or share the policy among workers by train.backend"
        )
    return ClusterError(f"training: a worker broke: {last_line(error)}; see the Ray logs of this session")


def _dpe_error(error: BaseException | None) -> DpeError | None:
    """Take a DpeError out of what Ray wraps around it."""
    while error is not None and not isinstance(error, DpeError):
        inner = (getattr(error, name, None) for name in ("_base_exc", "cause", "controller_failure"))
        error = next(filter(None, inner), error.__cause__)
    return error
