"""A run on Ray from its config to its report: the only place that knows every part."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpe_ray.config import ModelConfig, RunConfig
from dpe_ray.errors import DpeError
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.models.openai_embed import EmbedSpec
from dpe_ray.ports import ChatDoor, EmbedderDoor, RolloutPool
from dpe_ray.rounds.ledger import cost, prices, read_calls, write_ledger
from dpe_ray.rounds.live import STALLS_EVERY_S, Notify, StallLines, repeating
from dpe_ray.rounds.loop import Loop, is_closed
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.record import cost_entry, summary
from dpe_ray.rounds.reporting import write_report
from dpe_ray.rounds.sets import load_sets
from dpe_ray.rounds.spending import spending
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.runtime import preflight, session
from dpe_ray.runtime.daemon import in_daemon
from dpe_ray.runtime.endpoints import resolve_models, run_prefix
from dpe_ray.runtime.listening import Listen
from dpe_ray.types import PolicyRef

if TYPE_CHECKING:
    from dpe_ray.runtime.serve_app import Served
    from dpe_ray.train.tracking.trackers import TrackingSettings

STUDENT = "student"
STALLS = "stalls.log"


def evolve(config: RunConfig, folder: Path, *, fresh: bool = False, until_round: int = 0, notify: Notify) -> None:
    """Run or go on with a run in `folder`, then write its report. Raises the error of the border that broke.

    Where nothing is left to do, nothing is read and started. What the config names is looked for first (`preflight`).
    An error of ours leaves `failed` in summary.json, an interrupt leaves `running`; the same call goes on from both.
    """
    folder = preflight.local_folder(folder)
    done = not fresh and is_closed(RunFolder(folder), config.rounds, until_round)
    if not done:  # before the folder is made: a run that cannot begin leaves nothing behind
        preflight.require(config, joined=session.joins())
    run = RunFolder.open(folder, config.model_dump(mode="json"), fresh=fresh)
    if done:
        notify("nothing to do: all that was asked for is done; --fresh begins anew")
        write_report(run)  # the one thing that an end by force may have left out
        return
    if not run.has_summary():
        run.write_summary(summary("running", (), None, None, budget=spending(config, ())))
    elif run.summary()["status"] == "failed":
        run.amend_summary(status="running", error="")
    try:
        _on_ray(config, run, until_round, notify)
    except BaseException as error:
        _close(config, run, error, notify)
        raise
    write_report(run)


def _close(config: RunConfig, run: RunFolder, error: BaseException, notify: Notify) -> None:
    """Leave status, cost and report behind; what goes wrong here is told, and does not hide what ended the run."""
    try:
        write_ledger(run.path)
        calls = read_calls(run.path / "journal")
        run.amend_summary(cost=cost_entry(cost(calls, prices(config))), budget=spending(config, calls))
        if isinstance(error, DpeError):
            run.amend_summary(status="failed", error=str(error))
        write_report(run)
    except Exception as also:  # recording border: the error that ended the run is the one to raise
        notify(f"no report: {' '.join(f'{type(also).__name__}: {also}'.split())}")


def _on_ray(config: RunConfig, run: RunFolder, until_round: int, notify: Notify) -> None:
    started = time.monotonic()
    notify("sets    reading pool, probe and suites")
    sets = load_sets(config, run)
    notify(f"sets    {sets.told()} ({time.monotonic() - started:.1f} s)")
    models = resolve_models(config, run.path / "sources")
    base = PolicyRef(models[STUDENT].source, revision=models[STUDENT].revision)
    notify(f"models  starting Ray, loading {', '.join(name for name, model in models.items() if model.engine)}")
    with session.open(config) as ours:
        from dpe_ray.runtime import serve_app

        prefix, runtime = run_prefix(config.name, run.path), config.runtime
        with serve_app.serving(
            models, prefix=prefix, ours=ours, listen=Listen(port=runtime.http_port), threads=runtime.torch_threads
        ) as served:
            notify(f"models  {', '.join(models)} ready ({time.monotonic() - started:.1f} s)")
            stages = make_stages(config, run, sets, _machine(config, run, models, served), notify)
            loop = Loop(config, run, stages, sets.suites(), notify, sets.suite_of)
            asyncio.run(_told(loop.run(base, until_round), StallLines(run.path / STALLS, notify)))
    notify(f"done    {time.monotonic() - started:.0f} s")


async def _told(work: Awaitable[PolicyRef], stalls: StallLines) -> None:
    async with repeating(stalls.tell, STALLS_EVERY_S):
        await work


def _tracking(config: RunConfig) -> "TrackingSettings":
    from dpe_ray.train.tracking.trackers import TrackingSettings

    told = config.tracking
    return TrackingSettings(
        told.to,
        told.project,
        group=config.name,
        completions=told.completions,
        options={str(name): given for name, given in told.options.items()},
    )


def _machine(
    config: RunConfig, run: RunFolder, models: Mapping[str, ModelConfig], served: Mapping[str, "Served"]
) -> Machine:
    """Bind the ports of the stages to Ray and to what is served there."""
    from dpe_ray.runtime.data_map import DataMapper
    from dpe_ray.runtime.publication import publish
    from dpe_ray.runtime.quota_actor import start_book, start_calls
    from dpe_ray.runtime.serve_route import ServeRoute
    from dpe_ray.runtime.sharded_index import ActorParts
    from dpe_ray.runtime.train_job import RayPolicyUpdater, method_settings

    calls, price = start_calls(), prices(config)

    def endpoint(name: str) -> dict[str, Any]:
        model = models[name]
        return {
            "name": name,
            "base_url": served[name].url if name in served else model.base_url,
            "model": model.model if model.base_url and model.model else name,
            "api_key_env": model.api_key_env,
            "concurrency": model.concurrency,
            "timeout_s": model.timeout_s,
            "retries": model.retries,
            "price": price[name],
            "route": ServeRoute(served[name].app) if name in served else None,
            "stalls": str(run.path / STALLS),
        }

    def door(role: str, stage: str, policy_version: int) -> ChatDoor:
        name = STUDENT if role == STUDENT else config.model_of(role)
        return ChatSpec(
            **endpoint(name),
            journal=str(run.journal(stage)),
            policy_version=policy_version if name == STUDENT else None,
            json_schema=models[name].json_schema,
            budget=None if role == STUDENT else calls,
        )

    def embedder(name: str) -> EmbedderDoor:
        return EmbedSpec(**endpoint(name))

    student = served[STUDENT].app

    async def publish_policy(policy: PolicyRef) -> None:
        await in_daemon(partial(publish, student, policy))

    train = config.train
    updater = RayPolicyUpdater(
        method_settings(train),
        _rollouts(config, run, models[STUDENT], student),
        storage=str(run.path / "train"),
        workers=train.num_workers,
        num_cpus=train.num_cpus,
        use_gpu=train.use_gpu,
        num_gpus=train.num_gpus,
        torch_threads=config.runtime.torch_threads,
        tracking=_tracking(config),
    )
    mapper = DataMapper(session.DATA_WORKER_CPUS)
    return Machine(mapper, door, embedder, start_book, calls, updater, publish_policy, ActorParts())


def _rollouts(config: RunConfig, run: RunFolder, model: ModelConfig, app: str) -> Callable[[], RolloutPool]:
    """What every training worker opens to get its rollouts."""
    from dpe_ray.runtime.local_pool import open_local_pool
    from dpe_ray.runtime.rollout_pool import ServeRolloutPool
    from dpe_ray.runtime.serve_app import engine_arguments
    from dpe_ray.runtime.shared_gpu import SharedGpuPool, shared

    open_pool: Callable[[], RolloutPool] = partial(ServeRolloutPool, app)
    if config.train.rollouts == "local":
        engine = engine_arguments(model, config.runtime.torch_threads)
        open_pool = partial(open_local_pool, engine, str(run.path / "train" / "published.json"))
    return partial(SharedGpuPool, open_pool, app) if shared(config.train, model) else open_pool
