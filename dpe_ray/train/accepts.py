"""Which samples a trainer cannot use, and why: asked before any model is loaded."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dpe_ray.errors import TrainingError
from dpe_ray.grading.rules import is_right_answer
from dpe_ray.train.targets import contradicts
from dpe_ray.types import AnswerKind, Sample

LONGEST_PHRASE = 6
"""Words of a text answer that a policy can still be expected to hit word for word."""


@dataclass(frozen=True)
class Refusal:
    """One sample that one trainer cannot use."""

    sample: str
    """Its id."""
    reason: str
    """Counted in the result: the same words for the same reason."""


def accepts(stage: str, samples: Sequence[Sample]) -> list[Refusal]:
    """Name the samples that a trainer (`sft` or `grpo`) refuses; the others it takes."""
    reasons = ((sample.id, _REASONS[stage](sample)) for sample in samples)
    return [Refusal(id_, f"{stage}: {reason}") for id_, reason in reasons if reason]


def usable(stage: str, samples: Sequence[Sample]) -> tuple[list[Sample], dict[str, int]]:
    """Samples that a trainer takes, in order, and how many it refuses by reason. Raises TrainingError when none is left.

    Example:
        usable("grpo", samples) -> (kept, {"grpo: the grader does not know its own answer": 3})
    """
    if not samples:
        raise TrainingError("no samples to train on; look at what supply accepted")
    refusals = accepts(stage, samples)
    counts = Counter(refusal.reason for refusal in refusals)
    if len(refusals) == len(samples):
        told = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common(3))
        raise TrainingError(f"none of {len(samples)} samples can be trained on ({told})")
    refused = {refusal.sample for refusal in refusals}
    return [sample for sample in samples if sample.id not in refused], dict(counts)


def _no_target(sample: Sample) -> str:
    if not sample.answer.value.strip():
        return "no answer to write"
    if sample.answer.kind is AnswerKind.CHOICE and sample.answer.value.strip().upper() not in [*sample.letters]:
        return "the answer is no letter of an option"
    return "the rationale ends at another answer" if contradicts(sample) else ""


def _no_reward(sample: Sample) -> str:
    if sample.answer.kind is AnswerKind.TEXT and len(sample.answer.value.split()) > LONGEST_PHRASE:
        return f"an answer of more than {LONGEST_PHRASE} words cannot be checked by rule"
    return "" if is_right_answer(sample, sample.answer.value) else "the grader does not know its own answer"


_REASONS: Mapping[str, Callable[[Sample], str]] = {"sft": _no_target, "grpo": _no_reward}
