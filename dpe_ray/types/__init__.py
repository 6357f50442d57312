"""Carriers between stages: frozen, picklable, each with one stable id. Nothing here computes more than its own id."""

from dpe_ray.types.comparison import Answers, CategoryChange, Comparison, Score, SuiteScore
from dpe_ray.types.diagnosis import Attribution, CellDiagnosis, Diagnosis, Failure, Graded, Verdict, VerdictKind
from dpe_ray.types.plan import CellPlan, DataPlan
from dpe_ray.types.policy import Completion, PolicyRef, Prompt, Rollout, RolloutGroup, TrainResult
from dpe_ray.types.sample import (
    AgentStep,
    Answer,
    AnswerKind,
    Candidate,
    Difficulty,
    ImageRef,
    Provenance,
    Rejection,
    Sample,
    content_id,
)

__all__ = [
    "AgentStep",
    "Answer",
    "AnswerKind",
    "Answers",
    "Attribution",
    "Candidate",
    "CategoryChange",
    "CellDiagnosis",
    "CellPlan",
    "Comparison",
    "Completion",
    "DataPlan",
    "Diagnosis",
    "Difficulty",
    "Failure",
    "Graded",
    "ImageRef",
    "PolicyRef",
    "Prompt",
    "Provenance",
    "Rejection",
    "Rollout",
    "RolloutGroup",
    "Sample",
    "Score",
    "SuiteScore",
    "TrainResult",
    "Verdict",
    "VerdictKind",
    "content_id",
]
