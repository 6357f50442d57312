"""Send a run to a cluster as a Ray job: the same YAML, the same command, there."""

import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpe_ray.config import load_config
from dpe_ray.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """A submitted run."""

    id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""


def submit_run(
    yaml: Path,
    overrides: Sequence[str],
    address: str,
    run_dir: Path | None,
    python: str,
    *,
    wait: bool,
    notify: Callable[[str], None],
) -> Job:
    """Check the YAML here, send it, and return once the job is known (or ended, with `wait`).

    The token of a cluster that wants one comes from RAY_AUTH_TOKEN. Raises ClusterError when no job server answers.
    """
    from ray.job_submission import JobSubmissionClient

    config = load_config(yaml, tuple(overrides))
    command = [python, "-m", "dpe_ray", "run", "run.yaml"]
    command += [part for override in overrides for part in ("--set", override)]
    # a job's own folder is a scratch copy: a run that should outlive the job needs a place of its own
    command += ["--run-dir", str(run_dir or Path("runs").absolute() / config.name)]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(yaml, Path(folder) / "run.yaml")
        try:
            client = JobSubmissionClient(address)
            # an id that was used before is refused, so every try has its own
            job = client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=f"dpe-{config.name}-{secrets.token_hex(3)}",
                runtime_env={"working_dir": folder},
            )
        except (OSError, RuntimeError) as error:
            raise ClusterError(f"{address}: no job was taken ({' '.join(str(error).split())[:300]})") from error
    try:
        return _follow(client, job, wait, notify)
    except (OSError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ClusterError(f"{address}: job {job} was taken, but cannot be followed ({told})") from error


def _follow(client: "JobSubmissionClient", job: str, wait: bool, notify: Callable[[str], None]) -> Job:
    printed = 0
    while (status := str(client.get_job_status(job).value)) not in ENDED and wait:
        printed = _tell(client.get_job_logs(job), printed, notify)
        time.sleep(1.0)
    if wait:
        _tell(client.get_job_logs(job), printed, notify)
    return Job(job, status)


def _tell(logs: str, printed: int, notify: Callable[[str], None]) -> int:
    for line in logs[printed:].splitlines():
        notify(line)
    return len(logs)
