"""How a log's own scorer judged the answers that we judge too: what our rules leave open is seen beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dpe_ray.grading.rules import needs_judge
from dpe_ray.types import Graded, VerdictKind

RIGHT = 0.5
"""Least score that counts as right."""


class Judged(NamedTuple):
    """One recorded answer, graded by us and, where the log has a score, by the log."""

    graded: Graded
    score: float | None
    """0-1."""

    @property
    def is_open(self) -> bool:
        """Whether our rules found no answer in it, or could not tell it from the reference."""
        verdict = self.graded.verdict
        return verdict.kind is VerdictKind.UNPARSABLE or needs_judge(verdict)


@dataclass(frozen=True)
class LogScores:
    """Scores that the log gives to answers which are judged by us, outages left out."""

    n: int
    """Answers with a score; 0 where the log has none."""
    accuracy: float
    """Mean of the scores, 0-1."""
    opened: int
    """Of them unparsable or undecidable by our rules."""
    opened_right: int
    """Of those, right by the log."""


def log_scores(judged: Sequence[Judged]) -> dict[str, LogScores]:
    """By category; under the empty name those of all."""
    by_category: dict[str, list[Judged]] = {"": []}
    for one in judged:
        if one.score is not None and one.graded.verdict.judged:
            by_category[""].append(one)
            by_category.setdefault(one.graded.sample.category, []).append(one)
    return {name: _summed(some) for name, some in by_category.items()}


def _summed(some: Sequence[Judged]) -> LogScores:
    scores = [one.score or 0.0 for one in some]
    opened = [score for one, score in zip(some, scores, strict=True) if one.is_open]
    return LogScores(len(some), sum(scores) / max(len(some), 1), len(opened), sum(score >= RIGHT for score in opened))
