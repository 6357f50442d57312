"""How a run fine-tunes the student."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

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


REWARDS = ("accuracy", "format", "length")


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
    lora_targets: Annotated[tuple[Literal["language", "tower", "projector"], ...], Field(min_length=1)] = ("language",)
    """Parts on whose linear layers the adapter is: the language model, the picture tower, and the projector between
    them. vLLM serves the last two for Qwen's models alone, with `options.enable_tower_connector_lora`."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Rollouts per prompt, G."""
    prompts_per_step: Positive = 128
    """Prompts per rollout batch, P."""
    updates_per_step: Positive = 1
    """Optimiser updates that share one rollout batch (DPE: 4)."""
    steps: Positive = 20
    """Rollout batches per round."""
    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Highest learning rate of GRPO, after warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What becomes of it over the updates of a round: it stays, or falls to 0 in a line or along a cosine. SFT's always
    falls along a cosine."""
    warmup: Fraction = 0.0
    """Share of the updates over which the learning rate rises to it in equal steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    kl: Annotated[float, Field(ge=0)] = 0.01
    """Coefficient of the KL to a frozen copy of the policy at the start of the round."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How the KL is estimated from single tokens (Schulman): k3 (DPE) is never negative and unbiased."""
    kl_importance: bool = False
    """Weight each token's KL by the ratio new / old, which keeps it unbiased from the second update of a batch on."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Of the ratio new / old. sequence: one per completion, the mean of its tokens' log-ratios (GSPO, arXiv
    2507.18071); set clip_low and clip_high to 3e-4 and 4e-4 with it, and clip_dual to null."""
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The ratio new / old is clipped below 1 - clip_low ..."""
    clip_high: Annotated[float, Field(gt=0)] = 0.3
    """... and above 1 + clip_high (DAPO: 0.28)."""
    clip_dual: Annotated[float, Field(gt=1)] | None = 3.0
    """Bounds the ratio of bad tokens that became likelier; null: off."""
    rollout_ratio: Literal["truncate", "mask", "off"] = "truncate"
    """What is done about the ratio trainer / rollout engine, of the same weights in two engines. truncate: tokens are
    weighted by it, at most by rollout_cap; mask: tokens above rollout_cap are left out; off: nothing."""
    rollout_cap: Annotated[float, Field(ge=1)] = 2.0
    scale_rewards: Literal["group", "none"] = "group"
    """group: advantages are divided by the standard deviation of their group's rewards; none: they are not (Dr. GRPO,
    arXiv 2503.20783)."""
    std_ddof: Literal[0, 1] = 1
    """That standard deviation has G - std_ddof in the denominator (DPE: 1)."""
    std_eps: Annotated[float, Field(ge=0)] = 1e-6
    """Added to that standard deviation (DPE: 1e-6, TRL: 1e-4)."""
    loss_mean: Literal["sequence", "token", "constant"] = "sequence"
    """sequence: each completion counts once (DPE); token: each token of the update (DAPO, arXiv 2503.14476); constant:
    the sum over tokens by completions x max_tokens (Dr. GRPO)."""
    mask_truncated_completions: bool = False
    """Leave completions that max_tokens cut out of the loss; their rewards stay in their group's mean (DAPO)."""
    overlong_buffer: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of max_tokens over which the reward `length` falls from 1 to 0 (DAPO: 4,096 of 20,480 tokens)."""
    drop_equal_groups: bool = True
    """Leave out groups whose rewards are all equal; they are counted. DPE keeps them."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive = 256
    """Length limit of a rollout."""
    reward: dict[str, Annotated[float, Field(ge=0)]] = {"accuracy": 0.9, "format": 0.1}
    """Weights of the reward parts (DPE: 0.9 and 0.1): accuracy, format, length, and functions of the user's own as
    `path/to/file.py:function`, called as `function(sample, completion) -> float` with a `dpe_ray.types` Sample and
    Completion; one that raises, hangs or returns no finite number gives 0 and is counted as `reward_errors`, and 50 in
    a row end the training."""
    reward_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that a function of the user's own may take for one completion."""
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
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """What the policy computes in; auto: the checkpoint's. What AdamW changes is in 32 bit always, with its moments: an
    adapter, or in full tuning copies of the weights (20 bytes a number in all), since steps of a small rate would get
    lost in bf16's 8 bits. Log-probabilities and loss are in 32 bit too; what is saved is in the checkpoint's dtype."""
    quantize: Literal["", "nf4"] = ""
    """nf4: the language model below an adapter is held in 4 bits (QLoRA, arXiv 2305.14314), computed in `dtype`. For
    backend ddp, and a student with engine transformers and `options: {quantize: nf4}`, so that trainer and rollouts
    have the same weights. Needs `pip install 'dpe-ray[qlora]'`."""
    gradient_checkpointing: bool = False
    """Keep of each layer only what it is given, and compute the rest again in the backward pass: about a third more
    work for memory that grows with one layer's activations instead of with all."""
    shared_prefix: Literal["auto", "off"] = "auto"
    """auto: a group's prompt and images are computed once per forward pass, not once per rollout, where model and
    lengths make that cheaper; the numbers are equal up to rounding. off: never."""
    rollouts: Literal["serve", "local"] = "serve"
    """serve: from the replicas of the student. local: from an engine in each training worker, set up as the student;
    nothing is sent, and a worker holds the weights twice."""
    rollouts_ahead: Literal[0, 1] = 0
    """1: the rollouts of the next step are sampled while this one is trained on, from the policy before its update;
    `rollout_ratio` weighs the difference. For engines with processors or GPUs of their own."""
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs per training worker."""
    use_gpu: bool = False
    num_gpus: Annotated[float, Field(gt=0, le=1)] = 1.0
    """GPUs per training worker, with use_gpu. A fraction shares one GPU with an engine, whose model has the rest of it
    as its `num_gpus`; for one worker."""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """What a worker's device can do in the dtype of the weights, in 10^12 operations a second, for the metric `mfu`;
    null: known for A100, H100 and H200 in bf16, elsewhere there is no such metric."""

    @field_validator("reward")
    @classmethod
    def _known(cls, reward: dict[str, float]) -> dict[str, float]:
        for name in reward:
            if name not in REWARDS and ".py:" not in name:
                raise ValueError(f"no reward {name!r}; there are {', '.join(REWARDS)} and path/to/file.py:function")
        if not any(reward.values()):
            raise ValueError("no part has a weight: nothing would be learned")
        names = [name.rpartition(":")[2] for name in reward]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"two rewards are named {twice}; rename a function")
        return reward

    @model_validator(mode="after")
    def _one_projector(self) -> Self:
        if self.tuning == "lora" and "projector" in self.lora_targets and self.trains_whole_projector:
            raise ValueError(
                "lora_targets: projector, and sft.projector_lr trains a whole copy of it; take one of them out"
            )
        return self

    @model_validator(mode="after")
    def _one_worker_a_gpu(self) -> Self:
        """NCCL refuses two ranks on one GPU, and fractions may fall on the same."""
        if self.num_gpus < 1 and self.workers.max > 1:
            raise ValueError(f"num_gpus: {self.num_gpus:g} shares a GPU, which one worker can; set workers: 1")
        return self

    @model_validator(mode="after")
    def _a_prompt_a_worker(self) -> Self:
        if self.method != "sft" and self.prompts_per_step < self.workers.max:
            raise ValueError(
                f"prompts_per_step: {self.prompts_per_step} for {self.workers.max} workers; lower train.workers"
            )
        return self

    @model_validator(mode="after")
    def _can_be_quantized(self) -> Self:
        if self.quantize and self.tuning == "full":
            raise ValueError("quantize: weights in 4 bits cannot be trained; set tuning: lora")
        if self.quantize and self.backend != "ddp":
            raise ValueError(f"quantize: {self.backend} does not cut weights in 4 bits into shards; set backend: ddp")
        return self

    @property
    def trains_whole_projector(self) -> bool:
        """Whether an adapter would carry a copy of the projector."""
        return self.method in ("sft", "chain") and self.sft.projector_lr > 0

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """A number where it is fixed, else least and most."""
        least, most = self.workers.min, self.workers.max
        return least if least == most else (least, most)
