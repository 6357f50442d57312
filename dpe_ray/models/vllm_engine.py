"""The engine on vLLM: the right one on GPUs. Adapters are swapped while it serves; tokens go in and tokens come out."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from dpe_ray.errors import BadRequest, ModelError, PoolError
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import Turn, chat_text, load_processor, render_turns
from dpe_ray.models.sampling import check_request, rollout_seeds
from dpe_ray.models.turnstile import Turnstile
from dpe_ray.models.vllm_adapter import require_served
from dpe_ray.models.vllm_core import VllmCore
from dpe_ray.models.vllm_job import Job, Written
from dpe_ray.models.vllm_options import VllmOptions, require_vllm
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion, PolicyRef, Prompt, Rollout, RolloutGroup

MAX_N = 256
"""Completions of one request."""
_SEEDS = 2**62
"""vLLM adds a completion's number to the seed of its request."""
T = TypeVar("T")


class VllmEngine:
    """An Engine, and a RolloutPool's worker. Options: `VllmOptions`.

    Log-probabilities are natural. With `logprobs_mode: raw_logprobs` they are those of the model at temperature 1,
    before top_p; rollouts at another temperature are refused, since the trainer scores at the sampling temperature.
    """

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        self._options = VllmOptions.read(options)
        require_vllm()
        self._processor = load_processor(source, self._options.revision)
        self._processor_lock = threading.Lock()  # fast tokenizers refuse two threads at once
        self._weights = (_place(source), self._options.revision)
        self._adapter = 0
        self._version = 0
        self._asleep = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        self._turnstile = Turnstile()
        self._core = self._wait(_start(source, self._options))
        with ExitStack() as failed:
            failed.callback(self.close)
            self._require_same_inputs()
            self._wait(self._core.label(str(self._version)))
            failed.pop_all()

    @staticmethod
    def check_options(options: dict[str, Any]) -> None:
        """Raise ConfigError for an option that there is not, or a wrong value; needs no vLLM."""
        VllmOptions.read(options)

    @property
    def version(self) -> int:
        """As `Engine.version`."""
        return self._version

    def check_health(self) -> None:
        """Raise ModelError when vLLM's processes are gone: only a new engine answers then."""
        if self._core.broken:
            raise ModelError("engine vllm: its processes have ended")

    def close(self) -> None:
        """End vLLM's processes."""
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def load_policy(self, policy: PolicyRef) -> int:
        """Swap in another policy: requests under way end first, later ones wait.

        An adapter gets a new number in vLLM at every swap; other weights than the served ones are read in place. Raises
        ModelError for an adapter that vLLM would apply in part only, or that did not arrive: then the old policy stays,
        unless its weights were being replaced or its name had changed. Nobody is answered then until a swap succeeds.
        """
        if policy.adapter:
            require_served(policy.adapter, rank=self._options.max_lora_rank, towers=self._core.applies_towers)
        self._wait(self._swap(policy))
        return self._version

    def doze(self) -> None:
        """With `sleep`: give the GPU's memory back until the next request, once nobody is asking. Else nothing."""
        if self._options.sleep:
            self._wait(self._doze())

    async def chat(self, request: EngineRequest) -> Sequence[Completion]:
        """As `Engine.chat`: [n], with tokens and log-probabilities."""
        check_request(request, MAX_N)
        top = request.top_logprobs if request.logprobs or request.top_logprobs else None
        token_ids, images = await asyncio.to_thread(self._read, request)
        seed = None if request.seed is None else request.seed % _SEEDS
        sampling = (request.n, request.temperature, request.top_p, request.max_tokens, seed)
        job = Job(token_ids, images, *sampling, request.stop, top, request.reply_schema)
        _, written = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._write([job]), self._loop))
        return written[0].completions

    def rollout(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int | Sequence[int],
    ) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`, `seed` as `rollout_seeds`: from one policy, with the tokens that vLLM saw."""
        self._require_exact(temperature, top_p)
        jobs = []
        for prompt, own_seed in zip(prompts, rollout_seeds(prompts, seed), strict=True):
            images = [decode(read_bytes(image)) for image in prompt.sample.images]
            ids = self._tokens([("user", prompt.text, images)])
            jobs.append(Job(ids, tuple(images), group_size, temperature, top_p, max_tokens, own_seed))
        version, written = self._wait(self._write(jobs))
        self.doze()
        return [
            RolloutGroup(prompt, tuple(Rollout(c) for c in each.completions), version, each.prompt_ids)
            for prompt, each in zip(prompts, written, strict=True)
        ]

    async def _end(self) -> None:
        self._core.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _write(self, jobs: Sequence[Job]) -> tuple[int, list[Written]]:
        """Sample from one policy, whose version is told. Raises ModelError when vLLM took others' weights."""
        async with self._awake():
            asked = [self._core.generate(job, self._adapter) for job in jobs]
            written = []
            for each in await asyncio.gather(*asked, return_exceptions=True):  # nobody is left inside behind an error
                if isinstance(each, BaseException):
                    raise each
                if each.weights != {str(self._version)}:
                    told = f"wrote with weights {', '.join(each.weights)}, asked for were {self._version}"
                    raise ModelError(f"engine vllm: {told}")
                written.append(each)
            return self._version, written

    async def _swap(self, policy: PolicyRef) -> None:
        """Change label and then version last: what breaks between leaves them apart, and then `_write` refuses."""
        async with self._turnstile.alone():
            await self._wake()
            if self._weights != (weights := (_place(policy.base), policy.revision)):
                self._weights = ("", "")  # known again when all of them are there
                await self._core.label("replaced")
                await self._core.load_weights(*weights)
                self._weights = weights
            new = await self._core.add_adapter(policy.adapter) if policy.adapter else 0
            try:
                await self._core.label(str(policy.version))
            except ModelError:
                if new:
                    await self._core.remove_adapter(new)
                raise
            old, self._adapter, self._version = self._adapter, new, policy.version
            if old:
                await self._core.remove_adapter(old)

    @asynccontextmanager
    async def _awake(self) -> AsyncIterator[None]:
        """Hold a place beside other requests, with the engine on its feet."""
        while True:
            if self._asleep:
                async with self._turnstile.alone():
                    await self._wake()
            async with self._turnstile.together():
                if not self._asleep:
                    yield
                    return

    async def _doze(self) -> None:
        async with self._turnstile.alone():
            if not self._asleep:
                await self._core.sleep()
                self._asleep = True

    async def _wake(self) -> None:
        if self._asleep:
            await self._core.wake()
            self._asleep = False

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _read(self, request: EngineRequest) -> tuple[list[int], tuple[Image.Image, ...]]:
        try:
            turns = [(role, text, [decode(data) for data in images]) for role, text, images in request.messages]
            return self._tokens(turns), tuple(image for _, _, images in turns for image in images)
        except (PoolError, ValueError) as error:
            raise BadRequest(f"messages: {error}") from error

    def _tokens(self, turns: Sequence[Turn]) -> list[int]:
        """[S'] prompt tokens with one placeholder per image, by the trainer's own template and tokenizer."""
        with self._processor_lock:
            text, special = chat_text(self._processor, turns)
            return list(self._processor.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _require_exact(self, temperature: float, top_p: float) -> None:
        """Raise BadRequest where vLLM would tell log-probabilities of another distribution than the trainer scores."""
        if problem := inexact(self._options.logprobs_mode, temperature, top_p):
            raise BadRequest(f"engine vllm: {problem}")

    def _require_same_inputs(self) -> None:
        """Raise ModelError where vLLM shows the model other tokens or pixels than the trainer does."""
        image = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
        turns: list[Turn] = [("user", "What is this?", [image])]
        ours = render_turns(self._processor, turns)
        ids, theirs = self._core.prepared(Job(self._tokens(turns), (image,), 1, 0.0, 1.0, 1, None))
        if ids != ours["input_ids"][0].tolist():
            raise ModelError("engine vllm: its prompt tokens differ from the trainer's; the processors do not agree")
        if not same_pixels(ours["pixel_values"], theirs["pixel_values"], self._processor.image_processor):
            raise ModelError("engine vllm: its pixels differ from the trainer's; the processors do not agree")


def same_pixels(ours: Any, theirs: Any, settings: Any) -> bool:
    """Whether two tensors show the same picture; `settings` holds the `image_mean` and `image_std` of `ours`.

    vLLM shows some models bytes and leaves it to them to scale them: then `ours` is scaled back, channels first.
    """
    if theirs.numel() != ours.numel():
        return False
    theirs = theirs.reshape(ours.shape)
    if theirs.is_floating_point():
        return bool((theirs == ours.to(theirs.dtype)).all())
    mean, std = (ours.new_tensor(each)[:, None] for each in (settings.image_mean, settings.image_std))
    channels = ours.reshape(len(ours), len(mean), -1)
    return bool((((channels * std + mean) * 255).round() == theirs.reshape(channels.shape)).all())


def inexact(logprobs_mode: str, temperature: float, top_p: float) -> str:
    """Tell why rollouts sampled like this carry log-probabilities that no trainer can use; empty when they do not."""
    if logprobs_mode == "raw_logprobs" and temperature not in (0, 1):
        return f"temperature {temperature:g} needs options.logprobs_mode: processed_logprobs and top_p 1"
    if logprobs_mode == "processed_logprobs" and top_p != 1:
        return f"top_p {top_p:g} needs options.logprobs_mode: raw_logprobs and temperature 1"
    return ""


async def _start(source: str, options: VllmOptions) -> VllmCore:
    return VllmCore(source, options)


def _place(source: str) -> str:
    """One name for one directory; a hub id stays as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source
