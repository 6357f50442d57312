"""Send a run to a cluster as a Ray job: the same YAML, the same command, there."""

import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import safe_dump

from dpe_ray.config import RunConfig, load_config
from dpe_ray.errors import ClusterError
from dpe_ray.pool.sources import PREFIX
from dpe_ray.runtime.preflight import is_path, local_folder

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

    What lies on the cluster is not seen from here: the job looks for it first. Relative paths are sent as absolute.
    The token of a cluster that wants one comes from RAY_AUTH_TOKEN. Raises ClusterError when no job server answers.
    """
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    config = load_config(yaml, tuple(overrides))
    tree, moved = absolute(config)
    if moved:
        notify(f"paths are sought on the cluster, relative ones from {Path.cwd()}: {', '.join(moved)}")
    # a job's own folder is a scratch copy: a run that should outlive the job needs a place of its own
    folder = local_folder(run_dir or Path("runs") / config.name)
    command = [python, "-m", "dpe_ray", "run", "run.yaml", "--run-dir", str(folder)]
    broken = (OSError, RuntimeError, ValueError, RayError)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "run.yaml").write_text(safe_dump(tree), encoding="utf-8")
        try:
            client = JobSubmissionClient(address)
            # an id that was used before is refused, so every try has its own
            job = client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=f"dpe-{config.name}-{secrets.token_hex(3)}",
                runtime_env={"working_dir": scratch},
            )
        except broken as error:
            hint = "give http://HEAD:8265, and the cluster's token in RAY_AUTH_TOKEN"
            raise ClusterError(f"{address}: no job was taken ({_line(error)}); {hint}") from error
    try:
        return _follow(client, job, wait, notify)
    except broken as error:
        raise ClusterError(f"{address}: job {job} was taken, but cannot be followed ({_line(error)})") from error
    except KeyboardInterrupt:
        where = f"--address {address} {job}"
        notify(f"interrupted; the job goes on: `ray job logs -f {where}` follows it, `ray job stop {where}` ends it")
        raise


def absolute(config: RunConfig) -> tuple[dict[str, Any], list[str]]:
    """What was set in a config, with absolute paths, and the keys whose paths were relative to the current directory.

    A model's source is a path where there is such a thing here, else a hub id.
    """
    tree = config.model_dump(mode="json", exclude_unset=True)
    places = [(key, tree.get(key) or {}, "source") for key in ("pool", "support", "probe")]
    places += [("decision", tree["decision"], "suite"), ("", tree, "taxonomy")]
    places += [("tools.edit", (tree.get("tools") or {}).get("edit") or {}, "limits")]
    places += [(f"final.{index}", suite, "suite") for index, suite in enumerate(tree.get("final", ()))]
    places += [("prompts", tree.get("prompts", {}), name) for name in config.prompts]
    places += [
        (f"models.{name}", model, "source")
        for name, model in tree["models"].items()
        if Path(model.get("source", "")).exists() or is_path(model.get("source", ""))
    ]
    moved = _absolute_programs(tree) + _absolute_rewards(tree)
    for key, part, name in places:
        path = part.get(name) or ""
        if path and not path.startswith(("/", "~", PREFIX)) and "://" not in path:
            part[name] = os.path.abspath(path)
            moved.append(f"{key}.{name}".strip("."))
    return tree, moved


def _absolute_programs(tree: dict[str, Any]) -> list[str]:
    """The same for `path/to/file.py:ClassName`; built-in programs have names without a colon."""
    programs = tree.get("supply", {}).get("construct", {}).get("programs", [])
    moved = [at for at, program in enumerate(programs) if ":" in program and not program.startswith("/")]
    for at in moved:
        programs[at] = os.path.abspath(programs[at])
    return [f"supply.construct.programs.{at}" for at in moved]


def _absolute_rewards(tree: dict[str, Any]) -> list[str]:
    """The same for rewards that are `path/to/file.py:function`."""
    rewards = tree.get("train", {}).get("reward", {})
    moved = [name for name in rewards if ":" in name and not name.startswith("/")]
    for name in moved:
        rewards[os.path.abspath(name)] = rewards.pop(name)
    return [f"train.reward.{name}" for name in moved]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


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
