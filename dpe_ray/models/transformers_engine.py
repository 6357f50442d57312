"""The engine on plain transformers: the right one on CPUs and for small models. Batches what arrives together.

Needs torch, transformers, peft and pillow only: it also runs where the rest of dpe_ray is not installed.
"""

import asyncio
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from dpe_ray.errors import BadRequest, ConfigError, ModelUnavailable, PoolError
from dpe_ray.models.decoding import Job, decode
from dpe_ray.models.held_adapter import HeldAdapter
from dpe_ray.models.images import decode as decode_image
from dpe_ray.models.images import read_bytes
from dpe_ray.models.policy import LoadedPolicy, load_policy, render, render_turns
from dpe_ray.models.sampling import check_request, rollout_seeds
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion, PolicyRef, Prompt, Rollout, RolloutGroup

_DEFAULTS: dict[str, Any] = {
    "threads": 1,
    "max_sequences": 256,
    "window_ms": 4,
    "one_by_one": False,
    "device": "cpu",
    "revision": "",
    "quantize": "",
}
_Place = tuple["asyncio.Task[list[list[Completion]]]", int]
"""The batch a request went into, and its index there."""


class TransformersEngine:
    """An Engine, and a RolloutPool's worker. Log-probabilities are those of `decoding.decode`.

    Options: `threads` of torch in this process, `max_sequences` decoded at once, `window_ms` of silence that close a
    batch, `one_by_one` for requests that share no batch, `device` (in a run: the GPU that its process reserves, where
    it does), `revision` of a hub id, `quantize` as in `load_policy`. Seeded requests repeat up to rounding, since which
    others share their batch moves logits by ~1e-7; one by one they repeat exactly.
    """

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        self.check_options(options)
        self._options = _DEFAULTS | options
        torch.set_num_threads(self._options["threads"])
        self._model_lock = threading.Lock()
        self._processor_lock = threading.Lock()  # fast tokenizers refuse two threads at once
        self._waiting: list[tuple[Job, asyncio.Future[_Place]]] = []
        self._batches: asyncio.Task[None] | None = None
        self._version = 0
        self._whole = True
        self._policy, self._held = self._load(PolicyRef(source, revision=self._options["revision"]))

    @staticmethod
    def check_options(options: dict[str, Any]) -> None:
        """Raise ConfigError for an option that there is not."""
        if unknown := sorted(set(options) - set(_DEFAULTS)):
            raise ConfigError(f"engine transformers: no option {unknown[0]!r}; there are {', '.join(_DEFAULTS)}")
        if (quantize := options.get("quantize", "")) not in ("", "nf4"):
            raise ConfigError(f"engine transformers: options.quantize is nf4 or empty, not {quantize!r}")

    @property
    def version(self) -> int:
        """As `Engine.version`."""
        return self._version

    def load_policy(self, policy: PolicyRef) -> int:
        """Swap in another policy between two batches; the old one serves until the new one is in memory.

        Of an adapter on the base that is served, only the adapter is read, and put into the old one's place: where that
        breaks half-way, nobody is answered until a swap succeeds.
        """
        if self._held and (weights := self._held.read(policy)):
            with self._model_lock:
                self._whole = False
                self._held.exchange(weights)
                self._whole, self._version = True, policy.version
            return self._version
        loaded, held = self._load(policy)
        with self._model_lock, self._processor_lock:
            self._policy, self._held, self._version, self._whole = loaded, held, policy.version, True
        return self._version

    async def chat(self, request: EngineRequest) -> Sequence[Completion]:
        """As `Engine.chat`: [n], with tokens and log-probabilities. The prompt is computed once for all n."""
        self._check(request)
        job = await asyncio.to_thread(self._prepare, request)
        place: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, place))
        if self._batches is None or self._batches.done():
            self._batches = asyncio.create_task(self._run_batches())
        batch, index = await place
        return (await asyncio.shield(batch))[index]

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
        """As `RolloutPool.rollout`; `seed` as `rollout_seeds`. Chat waits meanwhile: one policy gives all groups."""
        with self._model_lock:
            jobs = []
            for prompt, own_seed in zip(prompts, rollout_seeds(prompts, seed), strict=True):
                images = [decode_image(read_bytes(image)) for image in prompt.sample.images]
                with self._processor_lock:
                    inputs = render(self._policy.processor, prompt.text, images)
                jobs.append(Job(inputs, group_size, temperature, top_p, max_tokens, own_seed))
                self._check_length(jobs[-1])
            written: list[list[Completion]] = [[] for _ in jobs]
            by_length = sorted(range(len(jobs)), key=lambda i: int(jobs[i].inputs["input_ids"].shape[1]))
            for part in _slices(by_length, max(1, self._options["max_sequences"] // group_size)):
                for i, completions in zip(part, self._decode([jobs[i] for i in part]), strict=True):
                    written[i] = completions
            return [
                RolloutGroup(
                    prompt,
                    tuple(Rollout(c) for c in completions),
                    self._version,
                    tuple(job.inputs["input_ids"][0].tolist()),
                )
                for prompt, job, completions in zip(prompts, jobs, written, strict=True)
            ]

    def _load(self, ref: PolicyRef) -> tuple[LoadedPolicy, HeldAdapter | None]:
        policy = load_policy(ref, quantize=self._options["quantize"])
        model = policy.model.to(self._options["device"])
        held = HeldAdapter(ref, model) if ref.adapter else None
        return LoadedPolicy(held.model if held else model, policy.processor), held

    def _check(self, request: EngineRequest) -> None:
        check_request(request, self._options["max_sequences"])
        if request.reply_schema is not None:
            raise BadRequest("response_format: must be text; this engine cannot hold to a form")

    def _check_length(self, job: Job) -> None:
        length = int(job.inputs["input_ids"].shape[1])
        limit = self._policy.model.config.get_text_config().max_position_embeddings
        if length + job.max_tokens > limit:
            raise BadRequest(f"{length} prompt tokens and max_tokens {job.max_tokens} exceed the context of {limit}")

    def _prepare(self, request: EngineRequest) -> Job:
        try:
            turns = [(role, text, [decode_image(data) for data in images]) for role, text, images in request.messages]
            with self._processor_lock:
                inputs = render_turns(self._policy.processor, turns)
        except (PoolError, ValueError, StopIteration) as error:  # the last: more placeholders than images
            raise BadRequest(f"messages: {error}") from error
        seed = secrets.randbits(31) if request.seed is None else request.seed % 2**63
        top = request.top_logprobs if request.logprobs or request.top_logprobs else None
        job = Job(inputs, request.n, request.temperature, request.top_p, request.max_tokens, seed, request.stop, top)
        self._check_length(job)
        return job

    async def _run_batches(self) -> None:
        while self._waiting:
            if not self._options["one_by_one"]:
                await self._silence()
            jobs, places = self._take()
            batch = asyncio.create_task(asyncio.to_thread(self._decode_locked, jobs))
            for index, place in enumerate(places):
                place.set_result((batch, index))
            await asyncio.wait([batch])

    async def _silence(self) -> None:
        seen = -1
        while seen < len(self._waiting) and sum(job.n for job, _ in self._waiting) < self._options["max_sequences"]:
            seen = len(self._waiting)
            await asyncio.sleep(self._options["window_ms"] / 1000)

    def _take(self) -> tuple[list[Job], list["asyncio.Future[_Place]"]]:
        self._waiting = [(job, place) for job, place in self._waiting if not place.done()]  # callers that left
        rows = count = 0
        for job, _ in self._waiting:
            if rows and (self._options["one_by_one"] or rows + job.n > self._options["max_sequences"]):
                break
            rows, count = rows + job.n, count + 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return [job for job, _ in taken], [place for _, place in taken]

    def _decode_locked(self, jobs: Sequence[Job]) -> list[list[Completion]]:
        with self._model_lock:
            return self._decode(jobs)

    def _decode(self, jobs: Sequence[Job]) -> list[list[Completion]]:
        if not self._whole:
            raise ModelUnavailable("engine transformers: an exchange of its adapter broke half-way; publish again")
        return decode(self._policy.model, self._policy.processor.tokenizer, jobs) if jobs else []


def _slices(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
