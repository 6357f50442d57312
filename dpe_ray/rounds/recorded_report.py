"""A diagnosis from recorded answers as one HTML file, with the sections that a run's report has."""

from collections.abc import Mapping
from dataclasses import dataclass

from dpe_ray.config import PlanConfig
from dpe_ray.grading.intervals import wilson
from dpe_ray.rounds import charts
from dpe_ray.rounds.findings import mistakes
from dpe_ray.rounds.log_scores import LogScores
from dpe_ray.rounds.page import page
from dpe_ray.rounds.report import STEPS_SHOWN, RoundReport, needs
from dpe_ray.types import DataPlan, Diagnosis

MEANING = (
    "unparsable: no answer of the wanted form was found; counts as wrong.",
    "undecidable: free text that rules cannot tell from the reference; counts as wrong, a judge may find it right.",
    "not judged: the log records an outage instead of an answer; counts nowhere.",
)


@dataclass(frozen=True)
class Recorded:
    """What a log of answers says, and what should be added for it."""

    file: str
    """The log's name."""
    diagnosis: Diagnosis
    plan: DataPlan
    settings: PlanConfig
    """By which it was planned."""
    scores: Mapping[str, LogScores]
    """By category; under the empty name those of all."""
    silent: str
    """Why no teacher was asked about the rationales; empty when one was."""

    def planned(self) -> str:
        """How the plan was made, in words."""
        chosen = self.settings
        return f"{chosen.total:,} samples, plan.method {chosen.method}, plan.floor {chosen.floor:g}"

    def mistakes(self) -> str:
        """What became of the wrong rationales, in words."""
        if self.silent:
            return self.silent
        errors = self.diagnosis.errors
        located = sum(error.location.step is not None for error in errors)
        unread = sum(error.location.status == "unparsable" for error in errors)
        named = sum(bool(error.skills) for error in errors)
        return (
            f"{len(errors):,} wrong answers: {unread:,} without steps or an answer, in {located:,} a wrong step was "
            f"located, for {named:,} a missing skill was named, {self.diagnosis.unexplained:,} unexplained by outages"
        )


def render_recorded(recorded: Recorded) -> str:
    """Write the page."""
    diagnosis = recorded.diagnosis
    counts = diagnosis.by_category().values()
    n, correct = sum(n for n, _ in counts), sum(k for _, k in counts)
    return page("recorded.html.jinja").render(
        recorded=recorded,
        n=n,
        accuracy=correct / n,
        interval=wilson(correct, n),
        scores=recorded.scores[""],
        rows=needs(RoundReport(1, diagnosis, recorded.plan)),
        found=mistakes(diagnosis),
        STEPS_SHOWN=STEPS_SHOWN,
        meaning=" ".join(MEANING),
        charts=charts,
    )
