"""The Ray a run sits on: joined where there is one, else started here and ended with the run.

`ray` is imported inside the functions, after its environment is set.
"""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from dpe_ray.config import RunConfig
from dpe_ray.errors import ClusterError

QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # a proxy that is not ready after 5 s is ended and begun anew: a busy machine would never have one
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # the raylet tells every driver of many actors, and of calls that it repeats by itself; one that ran out of memory
    # stays to be seen, and so does all else
    "RAY_DEDUP_LOGS_SKIP_REGEX": (
        r"worker processes have been started on node"
        r"|^Task .* retries remaining, so the task will be retried(?![\s\S]*memory)"
    ),
}
"""Keeps what Ray tells about itself away from the user's terminal."""
DATA_WORKER_CPUS = 0.25
API_SERVER = "RAY_API_SERVER_ADDRESS"


@dataclass(frozen=True)
class Hold:
    """What a part of a run holds at once at the most."""

    count: int
    """Replicas or workers."""
    cpus: float
    """Of each."""
    gpus: float
    """Of each."""


Asked = dict[str, Hold]
"""By part."""


def asked_by_models(config: RunConfig) -> Asked:
    """What all replicas of all models hold, by model."""
    return {
        f"models.{name}": Hold(model.replicas.max, model.num_cpus, model.num_gpus)
        for name, model in config.models.items()
        if model.engine
    }


def asked_by(config: RunConfig) -> Asked:
    """What the parts of a run hold. Workers beyond the first can wait."""
    train = config.train
    return asked_by_models(config) | {
        "supply.workers": Hold(config.supply.workers.min, DATA_WORKER_CPUS, 0.0),
        "train": Hold(train.workers.min, train.num_cpus, train.num_gpus if train.use_gpu else 0.0),
    }


def total(asked: Asked) -> tuple[float, float]:
    """CPUs and GPUs of all parts together."""
    return sum(part.count * part.cpus for part in asked.values()), sum(p.count * p.gpus for p in asked.values())


@contextmanager
def open(config: RunConfig, asks: Callable[[RunConfig], Asked] = asked_by) -> Iterator[bool]:
    """Hold a Ray for the time of a command: True when it is ours alone. Raises ClusterError: none, or too small.

    Only a Ray that is started here is measured against what the command asks for: a cluster may add nodes.
    """
    ours = start(object_store_mb=config.runtime.object_store_mb)
    try:
        if ours:
            require(asks(config))
        yield ours
    finally:
        if ours:
            stop()


def joins() -> bool:
    """Whether `open` joins a Ray that is there, as in a job, rather than starting one."""
    return bool(os.environ.get("RAY_ADDRESS"))


def start(*, num_cpus: int | None = None, object_store_mb: int = 256, address: str = "") -> bool:
    """Join the Ray at `address`, at $RAY_ADDRESS (as in a job), or start one here; True when it was started here.

    Takes 8-13 s. A started Ray demands a throw-away token from whoever connects. Raises ClusterError.
    """
    address = address or os.environ.get("RAY_ADDRESS", "")
    prepare_environment(throw_away_token=not address)
    with _without_chatter():
        import ray

        if ray.is_initialized():
            return False
        _connect(address, num_cpus, object_store_mb)
    _calm_libraries()
    return not address


def _connect(address: str, num_cpus: int | None, object_store_mb: int) -> None:
    import ray

    quiet = {"logging_level": "warning", "log_to_driver": False, "namespace": "dpe_ray"}
    here = {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": object_store_mb * 2**20}
    try:
        with _own_sigterm(), nullcontext() if address else _no_dashboard():
            ray.init(address or "local", **quiet, **({} if address else here))
    except Exception as error:  # Ray raises just that when its node does not come up
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(f"ray at {address or 'this machine'}: {reason}; check address and token") from error


@contextmanager
def _no_dashboard() -> Iterator[None]:
    """Tell the processes of a Ray without a dashboard an address that refuses at once.

    Ray Train asks the dashboard whether its controller lives; where none is, each training ends 12 s later, since the
    address is looked for 20 times, every 2 s.
    """
    before = os.environ.get(API_SERVER)
    os.environ[API_SERVER] = "http://127.0.0.1:9"
    try:
        yield
    finally:
        os.environ.pop(API_SERVER)
        if before is not None:
            os.environ[API_SERVER] = before


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray's driver exits on SIGTERM at once; what the process had chosen before stays."""
    if threading.current_thread() is not threading.main_thread():  # nobody but the main thread may set it, Ray neither
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Ray's C++ core writes to the descriptor of stderr itself while it starts; what fails is raised all the same."""
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


def stop() -> None:
    """End the Ray that `start` started in this process, with everything on it."""
    import ray

    ray.shutdown()


def prepare_environment(*, throw_away_token: bool) -> None:
    """Set what Ray reads from the environment; nothing that the user has set is changed.

    An imported Ray has read its authentication mode already: then it keeps to its own token file.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # a thread that outlives the run, as after an interrupt, would join or start another Ray by its next call
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if throw_away_token and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def require(asked: Asked) -> None:
    """Raise ClusterError, saying what is missing, when the cluster as it is cannot hold all parts together."""
    import ray

    for message in lacking(asked, ray.cluster_resources()):
        raise ClusterError(message)


def lacking(asked: Asked, there: Mapping[str, float]) -> list[str]:
    """What is missing where `there` are so many `CPU` and `GPU`: a line for each of the two that is short."""
    messages = []
    for kind, wanted in zip(("CPU", "GPU"), total(asked), strict=True):
        have = there.get(kind, 0.0)
        if wanted > have + 1e-6:
            each = {name: (part.count, part.cpus if kind == "CPU" else part.gpus) for name, part in asked.items()}
            parts = ", ".join(
                f"{name} ({count} x {size:g}) = {count * size:g}" for name, (count, size) in each.items() if size
            )
            messages.append(
                f"the run asks for {wanted:g} {kind}s ({parts}) and the cluster has {have:g}: "
                f"{wanted - have:g} are missing; lower num_{kind.lower()}s, replicas or workers"
            )
    return messages


def _calm_libraries() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.serve", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # its own log file keeps everything; what breaks a pipeline reaches the user as one error of ours
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
