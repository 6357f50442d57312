"""What was measured about a policy's answers, and what that says about its weak places."""

from dataclasses import dataclass, field
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
    """visual_recognition, calculation, reasoning, misunderstanding or other; not_judged when no judge answered.
    Of recorded answers, which no judge sees: wrong, undecidable or unparsable."""
    description: str
    unanswered: str = ""
    """Why a judge that was asked did not answer; empty when it did, and when nobody was asked."""


class Need(StrEnum):
    """What a weak cell lacks, measured by what repairs its failed items."""

    ELICITABLE = "elicitable"
    """Some of k answers are right: GRPO can bring the right way out."""
    KNOWLEDGE = "knowledge"
    """Wrong even with the facts given as text: rationales must be taught first."""
    PERCEPTION = "perception"
    """Right when the facts are given as text or the image is enlarged: the vision tower must train."""
    FORMAT = "format"
    """Right as soon as options are reordered or the answer is read leniently: the prompt must change."""


@dataclass(frozen=True)
class MistakeLocation:
    """Where a rationale first goes wrong, as one method sees it."""

    method: str
    """answer_switch, random, prompt_per_step, pseudo_rationale, largest_jump, change_point, or none (an ablation)."""
    step: int | None
    """1-based; None when the method abstains."""
    status: str
    """found, fallback (the rule never fired, the largest jump is given), abstained, unparsable, or unavailable for an
    outage of the teacher."""
    margins: tuple[float, ...] = ()
    """[n + 1] log-odds of wrong over gold after steps 1..t, t = 0..n; empty for methods that read none."""
    calls: int = 0
    """Teacher calls it took."""
    prior: float | None = None
    """Planted on the right option in the end; None for methods that plant none."""
    unanswered: str = ""
    """Why the teacher did not answer; empty unless `unavailable`."""


@dataclass(frozen=True)
class MissingSkill:
    """One skill that would have prevented an error."""

    name: str
    """Canonical, as in a cell."""
    text: str
    """In the analyst's words: what is retrieved by."""
    weight: float = 1.0
    """The weights of one error's skills sum to 1."""


@dataclass(frozen=True)
class ErrorRecord:
    """One wrong answer with a rationale: which step went wrong, and which skill was missing."""

    sample_id: str
    category: str
    steps: tuple[str, ...]
    """The rationale's steps in order, the closing answer left out."""
    answer: str
    """What the student answered."""
    location: MistakeLocation
    skills: tuple[MissingSkill, ...]
    """Empty when none was usable."""
    dropped: str = ""
    """Why no skill was usable."""
    error_kind: str = ""
    """perception, knowledge, reasoning, instruction or format, as the analyst sees it; empty when it was not asked."""
    evidence: str = ""
    """The words of a step that show the error, as the analyst quotes them."""


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
    learnability: float | None = None
    """Mean over items of k/(k-1) p(1-p) from k >= 4 sampled answers each, 0-0.25 x k/(k-1); None when not measured."""
    need: Need | None = None
    """The most frequent of `needs`; None when not measured."""
    needs: dict[str, int] = field(default_factory=dict)
    """Failed items by what they lack; those that an outage left unmeasured count nowhere."""
    measured_by: dict[str, int] = field(default_factory=dict)
    """The same items by what named it: read, sampled, facts, zoom, shuffled, judge or none."""

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
    errors: tuple[ErrorRecord, ...] = ()
    """What mistake identification made of the wrong answers; empty when it was not asked for."""
    unexplained: int = 0
    """Items that an outage of analyst, judge or reader left without a skill, a reason or a located step."""

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
