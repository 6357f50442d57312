"""Without gold answers: the majority of k sampled answers stands in for the reference.

What this cannot see: a student that is wrong the same way every time agrees with itself and passes for right (a firm
misconception, a missing fact it always fills in alike), and of a question with two options a guesser wins half the
votes by chance. It finds where the student is unsure, which is where most of what it could learn lies; it measures no
accuracy, and must not decide about a policy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dpe_ray.diagnose.sampling import Draws
from dpe_ray.grading.rules import normalise
from dpe_ray.types import AnswerKind, Graded, Sample, Verdict, VerdictKind

GRADER = "vote@1"


@dataclass(frozen=True)
class VoteSettings:
    """How votes are taken."""

    k: int = 8
    """Sampled answers per item."""
    least: float = 0.875
    """Least share of the majority among the k answers of an item that is not hard, 0-1. At 7 of 8 the hard items of the
    micro student hold 0.80 of those that a greedy answer gets wrong, and 0.73 of them are wrong."""
    seed: int = 0


def vote(samples: Sequence[Sample], drawn: Mapping[str, Draws], least: float) -> tuple[Graded, ...]:
    """Grade every item by its own majority, in order: `correct` from a share of `least` on, else `wrong`, that is hard.

    The sample's answer becomes the majority's (ties: the first from a to z), and with it its id. The text is an answer
    of the majority for an easy item, and one that deviates for a hard one, so that a judge can say how they differ.
    Answers that cannot be read vote for nobody but count in k; without a single readable one the item is `unparsable`
    and keeps its answer. Items without draws are not judged.
    """
    return tuple(_voted(sample, drawn.get(sample.id), least) for sample in samples)


def _voted(sample: Sample, draws: Draws | None, least: float) -> Graded:
    if draws is None:
        return Graded(sample, "", Verdict(VerdictKind.NOT_JUDGED, GRADER, "the student did not answer"))
    votes = Counter(answer for answer in draws.answers if answer)
    if not votes:
        return Graded(sample, draws.texts[0], Verdict(VerdictKind.UNPARSABLE, GRADER, "no answer can be read"))
    winner = min(votes, key=lambda answer: (-votes[answer], answer))
    share = votes[winner] / len(draws.answers)
    is_easy = share >= least
    text = next(t for t, a in zip(draws.texts, draws.answers, strict=True) if (a == winner) is is_easy)
    reason = f"{votes[winner]} of {len(draws.answers)} answers agree"
    kind = VerdictKind.CORRECT if is_easy else VerdictKind.WRONG
    return Graded(_answered(sample, winner), text, Verdict(kind, GRADER, reason))


def _answered(sample: Sample, winner: str) -> Sample:
    value = winner
    if sample.answer.kind is AnswerKind.CHOICE:
        value = sample.letters[[normalise(option) for option in sample.options].index(winner)]
    return replace(sample, answer=replace(sample.answer, value=value, aliases=()))
