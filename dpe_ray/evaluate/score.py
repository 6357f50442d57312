"""What a policy scores: macro accuracy over categories, with intervals per category and suite."""

from collections.abc import Iterable, Mapping, Sequence

from dpe_ray.grading.intervals import wilson
from dpe_ray.types import Graded, Score, SuiteScore


def score(graded: Sequence[Graded], suite_of: Mapping[str, str] | None = None) -> SuiteScore:
    """Count judged items; `not_judged` ones lower n and nothing else, unparsable ones are wrong.

    macro is the mean over the categories with n > 0 (0 without any); intervals are 95 % Wilson. `suite_of` names the
    suite of a sample id; without it `by_suite` is empty.
    """
    judged = [g for g in graded if g.verdict.judged]
    by_category = _scores((g.sample.category, g.verdict.correct) for g in judged)
    suites = suite_of or {}
    return SuiteScore(
        n=len(judged),
        macro=sum(s.accuracy for s in by_category.values()) / len(by_category) if by_category else 0.0,
        by_category=by_category,
        by_suite=_scores((suites[g.sample.id], g.verdict.correct) for g in judged if g.sample.id in suites),
        not_judged=len(graded) - len(judged),
    )


def _scores(outcomes: Iterable[tuple[str, bool]]) -> dict[str, Score]:
    counts: dict[str, tuple[int, int]] = {}
    for name, correct in outcomes:
        n, k = counts.get(name, (0, 0))
        counts[name] = (n + 1, k + correct)
    return {name: Score(n, k / n, *wilson(k, n)) for name, (n, k) in sorted(counts.items())}
