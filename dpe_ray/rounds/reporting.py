"""From the run directory to RUN/report.html."""

from pathlib import Path

from dpe_ray.models.images import read_bytes
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.report import ReportData, RoundReport, render
from dpe_ray.rounds.spending import in_words
from dpe_ray.rounds.store import RunFolder, StageFolder, write_text
from dpe_ray.types import Comparison, DataPlan, Diagnosis, TrainResult


def write_report(run: RunFolder) -> Path:
    """Write report.html from what the run has so far; returns its path. Raises StoreError where there is no run."""
    summary = run.summary()
    rounds = []
    index = 1
    while (folder := run.round(index)).path.exists():
        rounds.append(_round(index, folder))
        index += 1
    limits = in_words(summary.get("budget", {}))  # runs of earlier versions have none
    report = ReportData(str(run.config()["name"]), summary, tuple(rounds), read_bytes, limits)
    path = run.path / "report.html"
    write_text(path, render(report))
    return path


def _round(index: int, folder: StageFolder) -> RoundReport:
    done = folder.seconds()
    supplied = "supply" in done
    return RoundReport(
        index=index,
        diagnosis=folder.load_json("diagnosis", Diagnosis) if "diagnosis" in done else None,
        plan=folder.load_json("plan", DataPlan) if "plan" in done else None,
        train=folder.load_json("training", TrainResult) if "training" in done else None,
        comparison=folder.load_json("comparison", Comparison) if "comparison" in done else None,
        reasons=folder.load_json("record", RoundRecord).reasons if folder.has("record") else (),
        accepted=folder.load_samples() if supplied else (),
        rejected=folder.load_rejected() if supplied else (),
    )
