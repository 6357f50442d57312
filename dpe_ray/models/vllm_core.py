"""vLLM itself, behind what engine vllm needs of it: the only file that imports it, and only when an engine starts.

Importing takes 6-25 s, starting 25-70 s on two cores. Everything here belongs to one event loop.
"""

import itertools
import multiprocessing
import os
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from dpe_ray.errors import BadRequest, ConfigError, ModelError, ModelUnavailable
from dpe_ray.models.dtypes import stored_dtype
from dpe_ray.models.vllm_job import Job, Written, asked, sampling_params, written
from dpe_ray.models.vllm_options import VllmOptions
from dpe_ray.models.vllm_worker import WholeReload

WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What a hub's repository must give."""
MISCOUNTED = ("llava",)
"""Model types whose tower sees a class token that vLLM's `get_mm_lora_token_counts` leaves out."""
WORKER = f"{WholeReload.__module__}.{WholeReload.__qualname__}"
_SHOWN = 2
T = TypeVar("T")


class VllmCore:
    """One vLLM engine with its processes. Made in the event loop that uses it; `close` ends the processes."""

    def __init__(self, source: str, options: VllmOptions) -> None:
        """Load the weights. Raises ConfigError when this machine cannot do what the options ask for, ModelError."""
        _prepare_environment(options)
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        if options.sleep and not current_platform.is_sleep_mode_available():
            raise ConfigError(f"options.sleep: vLLM cannot sleep on {current_platform.device_type}; leave it out")
        if on_cpu and options.enforce_eager is not False:
            os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # the sampler alone would compile for half a minute
        try:
            args = options.engine_args(source, _checked_dtype(source, options), on_cpu=on_cpu)
            self._llm: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(**args, worker_extension_cls=WORKER))
        except ConfigError:
            raise
        except Exception as error:  # as in `_done`
            raise ModelError(f"engine vllm: {source} does not start ({_line(error)}); see the replica's log") from error
        self._watch = _kill_behind_us()
        self._numbers = itertools.count(1)
        self._adapters: dict[int, Any] = {}
        self._room = options.max_lora_rank

    async def generate(self, job: Job, adapter: int = 0) -> Written:
        """Sample; `adapter` as `add_adapter` gave it. Raises BadRequest, ModelUnavailable."""
        from vllm.exceptions import VLLMClientError, VLLMServerError

        prompt: dict[str, Any] = {"prompt_token_ids": job.token_ids}
        if job.images:
            prompt["multi_modal_data"] = {"image": list(job.images)}
        last = None
        try:
            stream = self._llm.generate(
                prompt, sampling_params(job), f"request-{next(self._numbers)}", lora_request=self._adapters.get(adapter)
            )
            async for output in stream:
                last = output
        except (VLLMClientError, ValueError) as error:
            raise BadRequest(f"engine vllm: {_line(error)}") from error
        except VLLMServerError as error:
            if isinstance(error.__cause__, ValueError):  # what its processors refuse comes wrapped
                raise BadRequest(f"engine vllm: {_line(error.__cause__)}") from error
            raise ModelUnavailable(f"engine vllm: {_line(error)}; see the replica's log") from error
        if last is None or len(last.outputs) != asked(job):
            raise ModelUnavailable("engine vllm: a request ended without its completions")
        return written(job, last, self._llm.get_tokenizer())

    def prepared(self, job: Job) -> tuple[list[int], dict[str, Any]]:
        """Prompt tokens [S] and picture tensors as vLLM makes them for the model; nothing is sampled."""
        prompt: dict[str, Any] = {"prompt_token_ids": job.token_ids, "multi_modal_data": {"image": list(job.images)}}
        (inputs,) = self._llm.renderer.render_cmpl([prompt], skip_mm_cache=True)
        return list(inputs["prompt_token_ids"]), dict(inputs["mm_kwargs"].get_data())

    async def add_adapter(self, folder: str) -> int:
        """Load a PEFT directory beside what is there, under a number that was never used. Raises ModelError."""
        from vllm.lora.request import LoRARequest

        number = next(self._numbers)
        request = LoRARequest(f"policy-{number}", number, folder)
        await _done(self._llm.add_lora(request), f"adapter {folder} cannot be loaded")
        if number not in await _done(self._llm.list_loras(), f"adapter {folder} cannot be looked for"):
            raise ModelError(f"engine vllm: adapter {folder} was taken and is not there")
        self._adapters[number] = request
        return number

    async def remove_adapter(self, number: int) -> None:
        """Forget an adapter that nobody asks for any more. Raises ModelError."""
        self._adapters.pop(number)
        await _done(self._llm.remove_lora(number), "an adapter cannot be removed")

    async def load_weights(self, source: str, revision: str) -> None:
        """Replace all weights by those of a directory or hub id, in place. Raises ModelError, also for some."""
        where = {"weights_path": _folder(source, revision)}
        reload = self._llm.collective_rpc("reload_whole", kwargs=where)
        left: list[list[str]] = await _done(reload, f"weights {source} cannot be loaded")
        if names := next(filter(None, left), None):  # the list of one worker
            some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            raise ModelError(f"engine vllm: weights {source} are not all there; {some} kept what they were")

    async def label(self, weights: str) -> None:
        """Name what is served from now on, and forget all that was computed from what was served before.

        Raises ModelError, also when vLLM keeps its old caches or its old name.
        """
        failed = f"weights cannot be named {weights}"
        await _done(self._llm.reset_mm_cache(), failed)
        await _done(self._llm.reset_encoder_cache(), failed)
        if not await _done(self._llm.reset_prefix_cache(), failed):
            raise ModelError("engine vllm: it kept its prefix cache; requests were under way")
        await _done(self._llm.update_weight_version(weights), failed)
        if (told := await _done(self._llm.get_weight_version(), failed)) != weights:
            raise ModelError(f"engine vllm: serves weights {told} instead of {weights}")

    async def sleep(self) -> None:
        """Move the weights to main memory and give up the cache. Nobody may be asking. Raises ModelError."""
        await _done(self._llm.sleep(level=1), "it does not give the GPU back")

    async def wake(self) -> None:
        """Undo `sleep`. Raises ModelError, as where others use the GPU's memory now."""
        await _done(self._llm.wake_up(), "it does not wake up; does gpu_memory_utilization leave room for the trainer?")

    @property
    def broken(self) -> bool:
        """Whether its processes are gone: it answers nothing any more."""
        return bool(self._llm.errored)

    @property
    def applies_towers(self) -> bool:
        """Whether it applies what an adapter holds for picture tower and projector."""
        from vllm.model_executor.model_loader.utils import get_model_cls

        settings = self._llm.vllm_config.lora_config
        able = getattr(get_model_cls(self._llm.model_config), "supports_tower_connector_lora", False)
        return bool(settings and settings.enable_tower_connector_lora and able)

    def close(self) -> None:
        """End its processes."""
        self._llm.shutdown(timeout=0)
        self._llm = None  # its finaliser complains when the interpreter is gone
        self._watch.kill()


async def _done(work: Awaitable[T], failed: str) -> T:
    """Wait for what vLLM's own process does. Raises ModelError: `failed` and why."""
    try:
        return await work
    except Exception as error:  # what breaks there comes back as plain Exception with its text, whatever it was
        raise ModelError(f"engine vllm: {failed} ({_line(error)})") from error


def _prepare_environment(options: VllmOptions) -> None:
    """Set what vLLM reads from the environment before it is imported; nothing that the user has set is changed."""
    for name, value in {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        # replicas and trainer share the cores: each would else bind its threads to the same ones
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # Ray has set it, to the CPUs of the replica


def _kill_behind_us() -> "subprocess.Popen[bytes]":
    """Have vLLM's engine killed when this process ends, however it ends: it would live on and keep the GPU.

    Its workers end with it.
    """
    children = [str(child.pid) for child in multiprocessing.active_children()]
    watch = ["/bin/sh", "-c", 'read _; kill -KILL "$@"', "vllm-watch", *children]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(watch, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def _checked_dtype(source: str, options: VllmOptions) -> str:
    """What the checkpoint is stored in, as the trainer loads it. Raises ConfigError for what its class cannot do."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, revision=options.revision or None, trust_remote_code=False)
    if options.enable_tower_connector_lora and config.model_type in MISCOUNTED:
        raise ConfigError(
            f"options.enable_tower_connector_lora: vLLM 0.32 counts the picture tokens of {config.model_type} wrongly "
            "and breaks down; leave it out"
        )
    return stored_dtype(config)


def _folder(source: str, revision: str) -> str:
    if Path(source).is_dir():
        return str(Path(source).absolute())
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return snapshot_download(source, revision=revision or None, allow_patterns=list(WEIGHTS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(f"engine vllm: weights {source} are not to be had ({_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
