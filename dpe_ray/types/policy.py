"""Policies, what they were asked and what they said. Axes: P prompts, G group, T completion tokens."""

from dataclasses import dataclass, field

from dpe_ray.types.sample import Sample


@dataclass(frozen=True)
class PolicyRef:
    """A policy by reference. The adapter may be empty: then `base` alone is the policy."""

    base: str
    """Directory or hub id of the whole model."""
    adapter: str = ""
    """PEFT directory applied to `base`, or empty."""
    version: int = 0
    """0 is the base; rises by one with every round that trained."""
    revision: str = ""
    """Hub revision of `base`, when it has one."""


@dataclass(frozen=True)
class Prompt:
    """One prompt for the policy that is trained: the sample it asks about and the finished user text."""

    sample: Sample
    text: str
    """The user turn without image placeholders; the policy's chat template adds them."""


@dataclass(frozen=True)
class Completion:
    """What a policy wrote."""

    text: str
    token_ids: tuple[int, ...] = ()
    """[T], the end token included when it was sampled."""
    logprobs: tuple[float, ...] = ()
    """[T], natural log, under the sampling distribution of the engine that wrote it (temperature applied)."""
    finished: bool = True
    """False when the length limit cut it."""
    prompt_tokens: int = 0
    """Image tokens expanded; 0 when the engine does not count them."""
    top_logprobs: tuple[tuple[tuple[str, float], ...], ...] = ()
    """[T][k] (token text, natural log-probability), likeliest first; empty unless asked for."""
    tokens: tuple[str, ...] = ()
    """[T] text of every token; empty unless alternatives were asked for."""


@dataclass(frozen=True)
class Rollout:
    """One member of a group with its reward."""

    completion: Completion
    reward: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    """Reward parts before weighting: accuracy, format, each 0-1."""
    reward_errors: tuple[str, ...] = ()
    """Reward parts that could not be had, each with the reason; they count 0."""


@dataclass(frozen=True)
class RolloutGroup:
    """The G rollouts of one prompt under one policy version."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    policy_version: int
    prompt_ids: tuple[int, ...] = ()
    """Prompt tokens as the engine saw them, image tokens expanded: the trainer must see the same."""


@dataclass(frozen=True)
class TrainResult:
    """What fine-tuning left behind."""

    policy: PolicyRef
    steps: int
    metrics: tuple[dict[str, float], ...]
    """One dict per optimiser step: reward, reward_std, frac_reward_zero_std, kl, loss, clip_ratio, ..."""
    refused: dict[str, int] = field(default_factory=dict)
    """Samples that a trainer could not use, by reason."""
