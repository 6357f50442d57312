"""What a GRPO run is told: plain numbers, so that training needs neither the run's configuration nor its clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GrpoSettings:
    """One round of GRPO. Names and meanings are those of the `train` part of a run; defaults are DPE's but for size."""

    tuning: str = "lora"
    """lora, or full: every weight, the vision tower included."""
    lora_rank: int = 16
    lora_alpha: int = 32
    group_size: int = 8
    """Rollouts per prompt, G."""
    prompts_per_step: int = 128
    """Prompts per rollout batch, P; a smaller training set is asked as a whole at every step."""
    updates_per_step: int = 1
    """Optimiser updates that share one rollout batch."""
    steps: int = 20
    """Rollout batches."""
    lr: float = 1e-5
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    kl: float = 0.01
    """Coefficient of k3 against the policy at the start of the round; 0 saves the reference's forward pass."""
    clip_low: float = 0.2
    clip_high: float = 0.3
    clip_dual: float = 3.0
    rollout_cap: float = 2.0
    """Largest trainer / rollout-engine probability ratio that a token is weighted with."""
    loss_mean: str = "sequence"
    """sequence: each sequence counts once; token: each token of the update counts once."""
    drop_equal_groups: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    reward: Mapping[str, float] = field(default_factory=lambda: {"accuracy": 0.9, "format": 0.1})
    """Weight per reward part."""
    permute_rewards: bool = False
    """Control experiment: shuffle the rewards within each group, so that nothing can be learned."""
    micro_batch: int = 64
    """Sequences per forward pass."""
    device: str = "cpu"
