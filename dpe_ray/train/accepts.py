"""Which samples a trainer cannot use, and why: asked before any model is loaded."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dpe_ray.errors import TrainingError
from dpe_ray.grading.rules import is_right_answer
from dpe_ray.train.targets import contradicts
from dpe_ray.types import AnswerKind, Prompt, Sample

LONGEST_PHRASE = 6
"""Words of a text answer that a policy can still be expected to hit word for word."""


def refusal(stage: str, sample: Sample) -> str:
    """Say why a trainer (`sft` or `grpo`) cannot use a sample; empty when it can. Equal reasons have equal words."""
    reason = _REASONS[stage](sample)
    return f"{stage}: {reason}" if reason else ""


def usable(stage: str, prompts: Sequence[Prompt]) -> tuple[list[Prompt], dict[str, int]]:
    """Prompts that a trainer takes, in order, and how many it refuses by reason.

    Raises TrainingError when it takes none.

    Example:
        usable("grpo", prompts) -> (kept, {"grpo: the grader does not know its own answer": 3})
    """
    if not prompts:
        raise TrainingError("no samples to train on; look at what supply accepted")
    reasons = [refusal(stage, prompt.sample) for prompt in prompts]
    kept = [prompt for prompt, reason in zip(prompts, reasons, strict=True) if not reason]
    refused = Counter(reason for reason in reasons if reason)
    if not kept:
        told = "; ".join(f"{count} x {reason}" for reason, count in refused.most_common(3))
        raise TrainingError(f"none of {len(prompts)} samples can be trained on ({told})")
    return kept, dict(refused)


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
