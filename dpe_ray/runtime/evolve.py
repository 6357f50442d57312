"""A run on Ray from its config to its report: the only place that knows every part."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from dpe_ray.config import RunConfig
from dpe_ray.errors import DpeError
from dpe_ray.rounds.loop import Loop
from dpe_ray.rounds.reporting import write_report
from dpe_ray.rounds.sets import load_sets
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import PolicyRef

Notify = Callable[[str], None]


def evolve(config: RunConfig, folder: Path, *, fresh: bool = False, until_round: int = 0, notify: Notify) -> None:
    """Run or go on with a run in `folder`, then write its report. Raises the error of the border that broke.

    An error of ours leaves `failed` in summary.json, an interrupt leaves `running`; the same call goes on from both.
    """
    run = RunFolder.open(folder.absolute(), config.model_dump(mode="json"), fresh=fresh)
    try:
        _on_ray(config, run, until_round, notify)
    except DpeError:
        run.mark("failed")
        raise
    finally:
        if (run.path / "summary.json").exists():
            write_report(run)


def _on_ray(config: RunConfig, run: RunFolder, until_round: int, notify: Notify) -> None:
    from dpe_ray.runtime import session

    started = time.monotonic()
    models = resolve_models(config, run.path / "sources")
    sets = load_sets(config, run)
    notify(f"sets    {sets.told()}  ({time.monotonic() - started:.1f} s)")
    with session.open(config):
        endpoints = serve_all(config, models, config.runtime.http_port)
        notify(f"models  {', '.join(endpoints)} served ({time.monotonic() - started:.1f} s)")
        machine = ray_machine(config, run, endpoints)
        base = PolicyRef(models["student"].source)
        stages = make_stages(config, run, sets, machine)
        loop = Loop(config, run, stages, sets.suites(), notify, sets.suite_of)
        asyncio.run(loop.run(base, until_round))
    notify(f"done in {time.monotonic() - started:.0f} s")
