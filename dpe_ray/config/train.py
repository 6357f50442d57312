"""How a run fine-tunes the student."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dpe_ray.config.part import Fraction, Part, Positive, Workers


class SftConfig(Part):
    """What supervised fine-tuning does otherwise than GRPO.

    Defaults are those of LLaVA-1.5's public task-LoRA script, which also has lora_rank 128 and lora_alpha 256.
    """

    lr: Annotated[float, Field(gt=0)] = 2e-4
    """Highest learning rate, after warm-up; falls to 0 along a cosine."""
    projector_lr: Annotated[float, Field(ge=0)] = 0.0
    """The same for the projector between picture tower and language model (LLaVA: 2e-5). 0 keeps it frozen beside an
    adapter, which vLLM can serve as it is, and gives it `lr` in full tuning."""
    warmup: Fraction = 0.03
    """Share of the updates over which the learning rate rises."""
    epochs: Positive = 1
    batch_size: Positive = 128
    """Samples per update, over all workers."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Positive = 2048
    """Tokens of prompt and completion, image tokens included; longer samples are refused and counted, never cut."""
    save_every: Positive = 50
    """Updates between two checkpoints."""
    rationale_share: Fraction = 0.75
    """Least share of samples whose completion works the answer out; short completions alone teach a policy to stop
    doing so. Samples without a rationale get the student's own for it, where one of `train.group_size` sampled answers
    is right. 0 trains on the samples as they are."""


def _as_range(workers: Any) -> Any:
    """Read a number as that many and no other."""
    return {"min": workers, "max": workers} if isinstance(workers, int) else workers


class TrainConfig(Part):
    """How the student is fine-tuned."""

    method: Literal["grpo", "sft", "chain"] = "grpo"
    """grpo; sft: supervised fine-tuning on the samples' completions; chain: sft, then grpo on the same samples."""
    sft: SftConfig = SftConfig()
    tuning: Literal["lora", "full"] = "lora"
    lora_rank: Positive = 16
    lora_alpha: Positive = 32
    group_size: Annotated[int, Field(ge=2)] = 8
    """Rollouts per prompt, G."""
    prompts_per_step: Positive = 128
    """Prompts per rollout batch, P."""
    updates_per_step: Positive = 1
    """Optimiser updates that share one rollout batch (DPE: 4)."""
    steps: Positive = 20
    """Rollout batches per round."""
    lr: Annotated[float, Field(gt=0)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    kl: Annotated[float, Field(ge=0)] = 0.01
    """Coefficient of k3 against the policy at the start of the round."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_high: Annotated[float, Field(gt=0)] = 0.3
    clip_dual: Annotated[float, Field(gt=1)] = 3.0
    loss_mean: Literal["sequence", "token"] = "sequence"
    """Mean per sequence (DPE) or over all tokens of the update."""
    drop_equal_groups: bool = True
    """Leave out groups whose rewards are all equal; they are counted. DPE keeps them."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive = 256
    """Length limit of a rollout."""
    reward: dict[Literal["accuracy", "format"], Annotated[float, Field(ge=0)]] = {"accuracy": 0.9, "format": 0.1}
    """Weights of the reward parts (DPE: 0.9 and 0.1)."""
    permute_rewards: bool = False
    """Control experiment: shuffle the rewards within each group, so that nothing can be learned."""
    backend: Literal["ddp", "fsdp2", "zero2", "zero3"] = "ddp"
    """What the workers hold in shards. ddp: nothing, each has all; zero2: gradients and optimiser state; fsdp2 and
    zero3: weights too. zero2 and zero3 need `pip install 'dpe-ray[deepspeed]'`. The update is the same."""
    workers: Annotated[Workers, BeforeValidator(_as_range)] = Workers()
    """`2`, or `{min: 1, max: 4}`: as many as the cluster has room for. After a change of their number training goes on
    from its last step; only a fixed number gives the same result again."""
    micro_batch: Positive = 64
    """Sequences per forward pass."""
    shared_prefix: Literal["auto", "off"] = "auto"
    """auto: a group's prompt and images are computed once per forward pass, not once per rollout, where model and
    lengths make that cheaper; the numbers are equal up to rounding. off: never."""
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs per training worker."""
    use_gpu: bool = False

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """A number where it is fixed, else least and most."""
        least, most = self.workers.min, self.workers.max
        return least if least == most else (least, most)
