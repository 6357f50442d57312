"""What a training run is told: plain numbers, so that it needs neither the run's configuration nor its clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self


@dataclass(frozen=True)
class PolicySettings:
    """What every method is told about the policy and how it is computed."""

    tuning: str = "lora"
    """lora, or full: every weight, the vision tower included."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_targets: tuple[str, ...] = ("language",)
    """Parts whose linear layers a new adapter is on, and that are trained of any: language, tower, projector."""
    dtype: str = "auto"
    """Of the base: auto (the checkpoint's), bf16 or fp32."""
    quantize: str = ""
    """nf4: the language model below an adapter is held in 4 bits."""
    gradient_checkpointing: bool = False
    """Compute the activations of layers again in the backward pass."""
    max_grad_norm: float = 1.0
    shared_prefix: str = "auto"
    """auto: one row without padding, in which a prompt stands once for all its completions, where that saves tokens;
    off: a padded row for every sequence."""
    backend: str = "ddp"
    """Which of `backends.BACKENDS` spreads the policy over the ranks."""
    device: str = "cpu"
    peak_tflops: float | None = None
    """Of one rank's device in the dtype of the weights, for `mfu`; None: known for some, else no such metric."""

    def on(self, device: str) -> Self:
        """The same on another device."""
        return replace(self, device=device)


@dataclass(frozen=True)
class GrpoSettings(PolicySettings):
    """One round of GRPO. Names and meanings are those of the `train` part of a run; defaults are DPE's but for size."""

    stages: ClassVar[tuple[str, ...]] = ("grpo",)
    group_size: int = 8
    """Rollouts per prompt, G."""
    prompts_per_step: int = 128
    """Prompts per rollout batch, P; a smaller training set is asked as a whole at every step."""
    updates_per_step: int = 1
    """Optimiser updates that share one rollout batch."""
    steps: int = 20
    """Rollout batches."""
    lr: float = 1e-5
    """Highest learning rate, after warm-up."""
    schedule: str = "constant"
    """How it goes on over the updates of the round: constant, linear or cosine; see `schedule`."""
    warmup: float = 0.0
    """Share of the updates over which it rises in equal steps."""
    weight_decay: float = 1e-2
    kl: float = 0.01
    """Coefficient of the KL to the policy at the start of the round; 0 saves the reference's forward pass."""
    kl_estimator: str = "k3"
    """k1, k2 or k3; see `objectives.kl`."""
    kl_importance: bool = False
    """Weight the KL of every token by the ratio new / old."""
    importance_sampling_level: str = "token"
    """Of the ratio new / old. token, or sequence (GSPO); see `objectives.ratio`."""
    clip_low: float = 0.2
    clip_high: float = 0.3
    clip_dual: float | None = 3.0
    """None: off."""
    rollout_ratio: str = "truncate"
    """truncate, mask or off: what a trainer / rollout-engine probability ratio above the cap does to its token."""
    rollout_cap: float = 2.0
    scale_rewards: str = "group"
    """group: advantages are divided by the standard deviation of their group; none: they are not (Dr. GRPO)."""
    std_ddof: int = 1
    """Standard deviation of a group with G - ddof in the denominator."""
    std_eps: float = 1e-6
    """Added to it."""
    loss_mean: str = "sequence"
    """sequence, token or constant; see `objectives.mean`."""
    mask_truncated_completions: bool = False
    """Leave completions that the length limit cut out of the loss; their rewards stay in the baseline (DAPO)."""
    overlong_buffer: float = 0.2
    """Share of `max_tokens` over which the reward part `length` falls from 1 to 0."""
    drop_equal_groups: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    reward: Mapping[str, float] = field(default_factory=lambda: {"accuracy": 0.9, "format": 0.1})
    """Weight per reward part: accuracy, format, length, or a function as `path/to/file.py:function`."""
    reward_timeout_s: float = 10.0
    """Of a reward function, per completion."""
    permute_rewards: bool = False
    """Control experiment: shuffle the rewards within each group, so that nothing can be learned."""
    rollouts_ahead: int = 0
    """1: the next step is rolled out while this one is trained on."""
    micro_batch: int = 64
    """Sequences per forward pass."""


@dataclass(frozen=True)
class SftSettings(PolicySettings):
    """One round of supervised fine-tuning on completions; defaults are those of LLaVA-1.5's public task-LoRA script."""

    stages: ClassVar[tuple[str, ...]] = ("sft",)
    lora_rank: int = 128
    lora_alpha: int = 256
    lr: float = 2e-4
    """Highest learning rate, after warm-up; falls to 0 along a cosine."""
    projector_lr: float = 0.0
    """The same for the projector (LLaVA: 2e-5). 0: frozen beside an adapter, `lr` in full tuning."""
    warmup: float = 0.03
    """Share of the updates over which the learning rate rises in equal steps."""
    epochs: int = 1
    batch_size: int = 128
    """Samples per update, over all ranks."""
    weight_decay: float = 0.0
    max_length: int = 2048
    """Tokens of prompt and completion, image tokens included; a longer sample is refused, never cut."""
    micro_batch: int = 16
    """Sequences per forward pass; sequences of similar length go together."""
    save_every: int = 50
    """Updates between two checkpoints."""
    rationale_share: float = 0.75
    """Least share of samples whose completion works the answer out. Samples that lack a rationale get the policy's own
    for it, where one of its sampled answers is right; 0 samples none."""
    group_size: int = 8
    """Answers sampled per sample that lacks a rationale."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    """Length limit of a sampled answer."""


@dataclass(frozen=True)
class ChainSettings:
    """Supervised fine-tuning, then GRPO from its outcome, on the same samples."""

    stages: ClassVar[tuple[str, ...]] = ("sft", "grpo")
    sft: SftSettings
    grpo: GrpoSettings

    def on(self, device: str) -> Self:
        """The same on another device."""
        return replace(self, sft=self.sft.on(device), grpo=self.grpo.on(device))


Settings = GrpoSettings | SftSettings | ChainSettings
"""What `train.methods.finetune` takes."""
