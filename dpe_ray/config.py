"""What a run is: one frozen tree, checked before anything heavy starts. Unknown keys are refused.

People write sparse YAML; `preset` is read first, the file overrides it, `--set a.b=c` overrides both. The resolved
tree is written into the run.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dpe_ray.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]

ROLES = ("planner", "question_writer", "validator", "solver", "judge", "skill_analyst")
PROMPTS = ("planner", "question_writer", "validator", "judge", "skill_analyst")
"""Roles whose prompt a user's file may replace; solver and student see the plain answer prompt."""


class Part(BaseModel):
    """Base of all parts: frozen, unknown keys refused, field docstrings kept as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Workers(Part):
    """How many of something run at once; scales between the two."""

    min: Positive = 1
    max: Positive = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class SupplyWorkers(Workers):
    """Annotation workers."""

    labels: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Custom resources that each of them takes, such as `{annotation: 0.01}` for the annotation nodes of `cluster/`.
    Without a node that has them nothing is annotated; empty on one machine."""


class PriceConfig(Part):
    """What an endpoint charges, in US dollars, in the units of the providers' price lists."""

    input: Annotated[float, Field(ge=0)] = 0.0
    """Per million prompt tokens."""
    output: Annotated[float, Field(ge=0)] = 0.0
    """Per million completion tokens."""
    image: Annotated[float, Field(ge=0)] = 0.0
    """Per thousand images sent, beside their tokens. Stays 0 where image tokens are counted among the prompt's and paid
    as such, as most endpoints do; lists of those that do not state it per thousand (`$/K input imgs` at OpenRouter)."""


class ModelConfig(Part):
    """One endpoint: served by this run (`source` and `engine`) or already there (`base_url`)."""

    source: str = ""
    """Directory, hub id or `builtin:NAME` of the weights; for a model that this run serves."""
    revision: str = ""
    """Of a hub id: branch, tag or commit; the student's only."""
    engine: str = ""
    """transformers, or the name of an engine that a package registers."""
    options: dict[str, Any] = {}
    """Handed to the engine."""
    replicas: Workers = Workers()
    num_cpus: Annotated[float, Field(gt=0)] = 0.25
    """CPUs that one replica reserves."""
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    base_url: str = ""
    """`https://host/v1` of an OpenAI-compatible endpoint."""
    model: str = ""
    """Model name to ask for; the entry's own name when empty."""
    api_key_env: str = ""
    """Environment variable of the worker that holds the key. The key itself never stands in a file."""
    concurrency: Positive = 32
    """Requests in flight from one process."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0)] = 4
    """After the first attempt: connection errors, time-outs, 408, 429 and 5xx, with exponential back-off and jitter."""
    price: PriceConfig = PriceConfig()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.base_url) == bool(self.engine):
            raise ValueError("give either base_url (an endpoint that exists) or engine (this run serves it)")
        if self.engine and not self.source:
            raise ValueError("engine needs a source: a directory, hub id or builtin:NAME")
        return self


class SourceConfig(Part):
    """Where images or samples come from."""

    source: str
    """Folder, glob, parquet file or folder, JSONL, or `builtin:NAME`."""


class ProbeConfig(SourceConfig):
    """The items a diagnosis sees; drawn anew each round."""

    size: Positive = 200
    """Items per round, stratified by category."""


class DecisionConfig(Part):
    """What decides whether a round's policy is kept."""

    suite: str
    """The gate suite: as `pool.source`, labelled."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Family-wise over the guarded categories."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The largest fall of a category that is tolerated, as a fraction of 1."""
    guard: Literal["fall", "proven"] = "fall"
    """fall: roll back when a category fell for certain (Holm); the categories in which a fall beyond the margin is not
    excluded are named. proven: roll back unless non-inferiority within the margin is shown for every category, which
    wants about 970 items a category at a margin of 0.05."""


class SuiteConfig(Part):
    """A suite of the final measurement."""

    suite: str


class DiagnoseConfig(Part):
    """How weak places are found."""

    method: Literal["categories"] = "categories"
    failures_per_cell: Positive = 5
    """Failed items kept as examples for the planner."""


class PlanConfig(Part):
    """How the diagnosis becomes quotas."""

    method: Literal["tiered", "error_count", "posterior", "uniform"] = "tiered"
    """tiered: DPE's utility of a cell's accuracy; error_count: every error weighs the same (error-driven tuning);
    posterior: share x need x learnability; uniform: an ablation in which the diagnosis decides nothing."""
    total: Positive = 1024
    """Samples to accept in a round."""
    floor: Fraction = 0.02
    """Least weight of every category, so that a blind spot of the probe is still explored."""
    replay: Fraction = 0.0
    """Labelled samples mixed into training, as a share of `total`."""
    target: dict[str, Annotated[float, Field(ge=0)]] = {}
    """What the model is wanted for, read by `posterior`: shares by category or by `category/skill`, on any scale. What
    is not named gets the floor only; all cells alike when empty."""
    permute_seed: Annotated[int, Field(ge=0)] | None = None
    """Control experiment: deal the weights out anew among the cells by this seed, so that nothing is aimed."""


class SupplyConfig(Part):
    """How quotas are filled."""

    order: Annotated[tuple[Literal["annotate"], ...], Field(min_length=1)] = ("annotate",)
    """Suppliers in turn: each is asked for what those before it left missing."""
    pass_rate: tuple[Fraction, Fraction] = (0.3, 0.8)
    """Band of the student's pass rate that is kept (DPE: 0.3-0.8), both ends included."""
    pass_rate_samples: Positive = 9
    """Answers of the current student per candidate (DPE: 9)."""
    solves: Annotated[int, Field(ge=0)] = 1
    """Blind solves by the solver role that must all agree with the proposed answer."""
    attempts: Positive = 3
    """Tries of the question writer per slot (DPE: 3)."""
    slots_per_sample: Annotated[float, Field(ge=1)] = 4.0
    """A cell is exhausted after quota x this many slots without being full."""
    workers: SupplyWorkers = SupplyWorkers(min=1, max=4)
    concurrency: Positive = 16
    """Slots in flight per worker."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.order)) < len(self.order):
            raise ValueError(f"order {list(self.order)} names a supplier twice")
        return self

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.pass_rate[0] >= self.pass_rate[1]:
            raise ValueError(f"pass_rate {list(self.pass_rate)} is no band: give [low, high] with low < high")
        return self


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
    backend: Literal["ddp"] = "ddp"
    workers: Positive = 1
    micro_batch: Positive = 64
    """Sequences per forward pass."""
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs per training worker."""
    use_gpu: bool = False


class AnswerConfig(Part):
    """How the student answers when it is measured: greedily, once."""

    max_tokens: Positive = 256


class BudgetConfig(Part):
    """What may be spent."""

    teacher_calls: Annotated[int, Field(ge=0)] = 20_000
    """Answered calls of all roles together in the run; student calls are free.

    Supply closes with what it has, and a diagnosis that it cuts off is the last. Never more than this are made, but for
    the judge while policies are measured on gate and final: its calls (text answers that rules cannot decide) count,
    and are not refused.
    """


class RuntimeConfig(Part):
    """How the run sits on the machine."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the served models on loopback; 0 picks a free one."""
    torch_threads: Positive = 1
    """Per process."""
    object_store_mb: Positive = 256
    """Only for a Ray that this run starts itself."""


class RunConfig(Part):
    """A whole run."""

    preset: str = ""
    name: str
    seed: int = 0
    rounds: Positive = 1
    models: dict[str, ModelConfig]
    roles: dict[str, str] = {}
    """Role to entry of `models`; `default` answers for the rest."""
    prompts: dict[str, str] = {}
    """Role to a prompt file of the user's own."""
    taxonomy: str = ""
    pool: SourceConfig
    support: SourceConfig | None = None
    probe: ProbeConfig
    decision: DecisionConfig
    final: tuple[SuiteConfig, ...] = ()
    answer: AnswerConfig = AnswerConfig()
    diagnose: DiagnoseConfig = DiagnoseConfig()
    plan: PlanConfig = PlanConfig()
    supply: SupplyConfig = SupplyConfig()
    train: TrainConfig = TrainConfig()
    budget: BudgetConfig = BudgetConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _references(self) -> Self:
        if "student" not in self.models:
            raise ValueError("models.student is missing: it is the model that is trained")
        if self.models["student"].base_url:
            raise ValueError("models.student must be served by this run (source and engine): its weights change")
        unknown = [role for role in self.roles if role not in (*ROLES, "default")]
        if unknown:
            raise ValueError(f"roles.{unknown[0]}: no such role; roles are {', '.join(ROLES)} and default")
        unknown = [name for name in self.prompts if name not in PROMPTS]
        if unknown:
            raise ValueError(f"prompts.{unknown[0]}: no such prompt; prompts are {', '.join(PROMPTS)}")
        for role in ROLES:
            if self.model_of(role) not in self.models:
                raise ValueError(f"roles.{role}: no model {self.model_of(role)!r} under models; set roles.default")
        if self.plan.replay > 0 and self.support is None:
            raise ValueError("plan.replay needs support: a labelled set to replay from")
        return self

    def model_of(self, role: str) -> str:
        """Name of the `models` entry that plays a role."""
        return self.roles.get(role, self.roles.get("default", "teacher"))


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read YAML, lay it over its preset, apply `a.b=c` overrides, check all. Raises ConfigError with one line."""
    tree = _read_yaml(Path(path))
    for override in overrides:
        _set(tree, override)
    if name := tree.get("preset"):
        tree = _merge(_read_preset(str(name)), tree)
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], where: str) -> RunConfig:
    """Check a resolved tree. Raises ConfigError naming file, key and what would be right."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        message = "no such key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        value = "" if first["type"] in ("extra_forbidden", "missing", "value_error") else f" (got {first['input']!r})"
        more = f" (+{error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{where}: {key}: {message}{value}{more}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a run YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, see jobs/micro.yaml")
    return tree


def _read_preset(name: str) -> dict[str, Any]:
    folder = files("dpe_ray") / "presets"
    names = sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))
    if name not in names:
        raise ConfigError(f"preset: no preset {name!r}; there are {', '.join(names)}")
    tree: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return tree


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as a.b=value")
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, it has no keys below it")
        tree = child
    try:
        tree[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {value!r} is no YAML value") from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
