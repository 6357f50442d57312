"""A diagnosis from recorded answers as a command: graded, explained where a teacher may be asked, planned, written."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from dpe_ray.config import PlanConfig, RunConfig
from dpe_ray.diagnose.responses.counting import diagnose_responses
from dpe_ray.diagnose.responses.reading import read_responses
from dpe_ray.errors import PoolError, StoreError
from dpe_ray.plan.stage import make_plan
from dpe_ray.plan.teachable import teachable
from dpe_ray.rounds.live import Notify
from dpe_ray.rounds.log_scores import Judged, log_scores
from dpe_ray.rounds.recorded_errors import find_errors, why_nobody_is_asked
from dpe_ray.rounds.recorded_report import Recorded, render_recorded
from dpe_ray.rounds.store import RunFolder, StageFolder, write_text
from dpe_ray.types import DataPlan, Diagnosis

MADE = {"diagnosis", "plan"}


def diagnose_recorded(
    file: Path, out: Path, config: RunConfig | None = None, notify: Notify = lambda line: None
) -> Recorded:
    """Grade the answers of a log and plan by them; write diagnosis.json, plan.json, report.html and stages.json to OUT.

    Asks the endpoints of the config's roles reader and skill_analyst about wrong rationales where `diagnose.method`
    wants that; the calls are kept in OUT/journal, all else is written at the end or not at all. Raises PoolError for
    the log, StoreError for OUT, and what `find_errors` raises.
    """
    _require_own(out)
    started = time.monotonic()
    judged = [Judged(response.graded(), response.score) for response in read_responses(file)]
    graded = [one.graded for one in judged]
    diagnosis = diagnose_responses(graded)
    if diagnosis.not_judged == diagnosis.probed:
        raise PoolError(f"{file}: all {diagnosis.probed} answers are outages ({graded[0].verdict.reason})")
    silent = why_nobody_is_asked(config)
    if config and not silent:
        notify(f"{diagnosis.probed} answers graded; asking about the rationales of wrong ones")
        errors, unexplained = asyncio.run(find_errors(graded, config, RunFolder(out)))
        diagnosis = replace(diagnosis, errors=errors, unexplained=unexplained)
    plan = _planned(diagnosis, config)
    settings = config.plan if config else PlanConfig()
    recorded = Recorded(file.name, diagnosis, plan, settings, log_scores(judged), silent)
    _write(recorded, out, time.monotonic() - started)
    return recorded


def _planned(diagnosis: Diagnosis, config: RunConfig | None) -> DataPlan:
    """By the method of a run. What rules say of a failure tells a planner nothing, so its instruction is without it."""
    bare = replace(diagnosis, cells=tuple(replace(cell, failures=()) for cell in diagnosis.cells))
    return make_plan(bare, config.plan, taught=teachable(config.train)) if config else make_plan(bare, PlanConfig())


def _require_own(out: Path) -> None:
    """A run's round must not get another diagnosis than the one that it went on with."""
    if further := set(StageFolder(out).seconds()) - MADE:
        raise StoreError(f"--out {out}: is a run's round ({', '.join(sorted(further))} is done); give another folder")
    place = out.resolve()
    if RunFolder(place.parent.parent).journal(f"{place.name}-supply").exists():
        raise StoreError(f"--out {out}: is a run's round (supply has begun); give another folder")


def _write(recorded: Recorded, out: Path, seconds: float) -> None:
    """As a round's folder: a run that finds it as its rounds/01 begins behind these stages."""
    folder, page = StageFolder(out), render_recorded(recorded)
    try:
        folder.save_json("diagnosis", recorded.diagnosis)
        folder.save_json("plan", recorded.plan)
        write_text(out / "report.html", page)
        folder.note({"diagnosis": seconds, "plan": 0.0})
    except OSError as error:
        raise StoreError(f"--out {out}: cannot be written ({error.strerror}); give a folder") from error
