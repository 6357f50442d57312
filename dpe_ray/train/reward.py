"""Rewards: small named parts, each 0-1, and one weighted sum (DPE: 0.9 accuracy + 0.1 format)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dpe_ray.errors import TrainingError
from dpe_ray.grading.rules import grade
from dpe_ray.types import RolloutGroup, Sample

_STEP = re.compile(r"\d+[.):]\s*\S")
_ANSWER = re.compile(r"answer:\s*\S", re.IGNORECASE)


def accuracy(sample: Sample, text: str) -> float:
    """1 when the rule grader finds the reference answer. No model is asked."""
    return float(grade(sample, text).correct)


def answer_format(sample: Sample, text: str) -> float:
    """1 when the text is what the answer prompt asks for: numbered steps, then one closing `answer:` line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    closing = [bool(_ANSWER.match(line)) for line in lines]
    numbered = bool(lines) and bool(_STEP.match(lines[0]))
    return float(numbered and closing[-1] and sum(closing) == 1)


Part = Callable[[Sample, str], float]
"""Sample and completion text -> 0-1."""
PARTS: Mapping[str, Part] = {"accuracy": accuracy, "format": answer_format}


@dataclass(frozen=True)
class Rubric:
    """A weighted sum of parts.

    Example:
        Rubric({"accuracy": 0.9, "format": 0.1}) gives a right answer without numbered steps 0.9.
    """

    weights: Mapping[str, float]
    parts: Mapping[str, Part] = field(default_factory=lambda: PARTS)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(self.parts)):
            raise TrainingError(f"unknown reward part {unknown[0]!r}; there are {', '.join(self.parts)}")

    def score(self, group: RolloutGroup) -> RolloutGroup:
        """Fill `reward` and `parts` of every rollout; parts of weight 0 are still reported."""
        sample = group.prompt.sample
        rollouts = []
        for rollout in group.rollouts:
            parts = {name: self.parts[name](sample, rollout.completion.text) for name in self.weights}
            reward = sum(self.weights[name] * value for name, value in parts.items())
            rollouts.append(replace(rollout, reward=reward, parts=parts))
        return replace(group, rollouts=tuple(rollouts))
