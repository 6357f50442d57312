"""What a policy scores on a suite, and how two policies differ on the same items."""

from dataclasses import dataclass

from dpe_ray.types.diagnosis import Graded


@dataclass(frozen=True)
class Score:
    """An accuracy with its 95 % Wilson interval, all 0-1."""

    n: int
    """Judged items."""
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class SuiteScore:
    """One policy on one suite or on several together."""

    n: int
    macro: float
    """Mean accuracy over the categories with n > 0."""
    by_category: dict[str, Score]
    by_suite: dict[str, Score]
    not_judged: int = 0


@dataclass(frozen=True)
class CategoryChange:
    """After minus before on the same items of one category."""

    n: int
    """Items that both policies were judged on."""
    change: float
    """Mean paired difference, -1..1."""
    low: float
    """Two-sided interval at the configured confidence, standard error clustered by image."""
    high: float
    p_fall: float
    """One-sided p of `no fall`, Holm-adjusted over the guarded categories: small means it fell for certain."""
    p_inferior: float
    """One-sided p of `fell by the margin or more`, Holm-adjusted: small means that is excluded."""
    detectable_drop: float
    """The smallest true fall that this many items would have shown with 80 % probability."""


@dataclass(frozen=True)
class Comparison:
    """Two policies on the gate suite, paired by item."""

    before: SuiteScore
    after: SuiteScore
    macro_change: float
    macro_low: float
    macro_high: float
    by_category: dict[str, CategoryChange]
    decision: str
    """accept, rollback or stop (kept if it passes, and no further round)."""
    reasons: tuple[str, ...]
    """Why, one sentence each."""


@dataclass(frozen=True)
class Answers:
    """Every graded item of one policy on one suite: what pairs are made from."""

    policy_version: int
    graded: tuple[Graded, ...]
