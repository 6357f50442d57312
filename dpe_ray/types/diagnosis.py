"""What was measured about a policy's answers, and what that says about its weak places."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from dpe_ray.types.sample import Sample, content_id


class VerdictKind(StrEnum):
    """`unparsable` counts as wrong in an accuracy; `not_judged` counts nowhere, it only lowers n."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True)
class Verdict:
    """The grade of one answer."""

    kind: VerdictKind
    grader: str
    """Name and version of the rule or judge, as `number@1`."""
    reason: str = ""

    @property
    def judged(self) -> bool:
        """False for an outage."""
        return self.kind is not VerdictKind.NOT_JUDGED

    @property
    def correct(self) -> bool:
        """True only for a right answer."""
        return self.kind is VerdictKind.CORRECT


@dataclass(frozen=True)
class Graded:
    """One item, what the policy wrote about it, and the grade."""

    sample: Sample
    text: str
    verdict: Verdict


@dataclass(frozen=True)
class Attribution:
    """Why one answer failed, as a judge sees it from image, question, reference and answer."""

    error_type: str
    """visual_recognition, calculation, reasoning, misunderstanding or other; not_judged when no judge answered."""
    description: str


@dataclass(frozen=True)
class Failure:
    """A failed probe item, with its attribution, as an example for planner and reader."""

    sample_id: str
    question: str
    reference: str
    text: str
    attribution: Attribution


@dataclass(frozen=True)
class CellDiagnosis:
    """One cell: a skill within a category."""

    category: str
    skill: str
    attempts: int
    """Judged items."""
    correct: int
    low: float
    """95 % Wilson interval of the accuracy, 0-1."""
    high: float
    error_types: dict[str, int]
    """Failed items by error type."""
    failures: tuple[Failure, ...] = ()

    @property
    def cell(self) -> str:
        """`category/skill`."""
        return f"{self.category}/{self.skill}"

    @property
    def accuracy(self) -> float:
        """0-1; 0 when nothing was judged."""
        return self.correct / self.attempts if self.attempts else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """Where a policy fails."""

    policy_version: int
    cells: tuple[CellDiagnosis, ...]
    probe: str
    """Hash of the probe items' ids."""
    probed: int
    """Items asked, judged or not."""
    not_judged: int

    @cached_property
    def id(self) -> str:
        """Hash of probe, policy version and counts."""
        return content_id(self.probe, self.policy_version, [(c.cell, c.attempts, c.correct) for c in self.cells])

    def by_category(self) -> dict[str, tuple[int, int]]:
        """Judged and correct items per category."""
        totals: dict[str, tuple[int, int]] = {}
        for cell in self.cells:
            n, k = totals.get(cell.category, (0, 0))
            totals[cell.category] = (n + cell.attempts, k + cell.correct)
        return totals
