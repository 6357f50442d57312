"""Rewards: small named parts, each 0-1, and one weighted sum (DPE: 0.9 accuracy + 0.1 format)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from dpe_ray.errors import ConfigError, TrainingError
from dpe_ray.grading.rules import grade
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.user_reward import RewardFailure, UserReward
from dpe_ray.types import Completion, Rollout, RolloutGroup, Sample

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


def length(sample: Sample, completion: Completion, *, max_tokens: int, buffer: float) -> float:
    """1 up to a length, then falling to 0 at `max_tokens` in a straight line over the share `buffer` of it.

    DAPO's soft over-long punishment (arXiv 2503.14476 eq. 13) plus 1: a constant that no advantage sees.
    """
    span = buffer * max_tokens
    return min(1.0, max(0.0, (max_tokens - len(completion.token_ids)) / span))


Part = Callable[[Sample, Completion], float | RewardFailure]
"""Sample and completion -> 0-1."""
PARTS: Mapping[str, Part] = {
    "accuracy": lambda sample, completion: accuracy(sample, completion.text),
    "format": lambda sample, completion: answer_format(sample, completion.text),
}


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
        """Fill `reward`, `parts` and `reward_errors` of every rollout; parts of weight 0 are still reported."""
        return replace(group, rollouts=tuple(self._scored(group.prompt.sample, each) for each in group.rollouts))

    def _scored(self, sample: Sample, rollout: Rollout) -> Rollout:
        parts, errors = {}, []
        for name in self.weights:
            value = self.parts[name](sample, rollout.completion)
            if isinstance(value, RewardFailure):
                errors.append(f"{name}: {value.reason}")
                value = 0.0
            parts[name] = value
        reward = sum(self.weights[name] * value for name, value in parts.items())
        return replace(rollout, reward=reward, parts=parts, reward_errors=tuple(errors))


def rubric_of(settings: GrpoSettings, parts: Mapping[str, Part] = PARTS) -> Rubric:
    """The rubric that settings describe; functions of the user's own are loaded and go by their names.

    Raises ConfigError when one cannot be loaded or has the name of another part, TrainingError for an unknown part.
    """
    known: dict[str, Part] = {
        **parts,
        "length": partial(length, max_tokens=settings.max_tokens, buffer=settings.overlong_buffer),
    }
    weights: dict[str, float] = {}
    for key, weight in settings.reward.items():
        name = key.rpartition(":")[2]
        if name in weights or (name != key and name in known):
            raise ConfigError(f"train.reward: two parts are named {name}; rename the function of {key}")
        if name != key:
            known[name] = UserReward(key, settings.reward_timeout_s)
        weights[name] = weight
    return Rubric(weights, known)
