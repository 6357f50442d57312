"""A request of vLLM: what is asked, how it is put to it, and what it wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dpe_ray.errors import ModelUnavailable
from dpe_ray.types import Completion


@dataclass(frozen=True)
class Job:
    """One prompt and how to sample from it."""

    token_ids: list[int]
    """[S'] one placeholder per image."""
    images: tuple[Image.Image, ...]
    n: int
    temperature: float
    """0 is greedy."""
    top_p: float
    max_tokens: int
    seed: int | None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    """Alternatives to tell per token; 0: the texts of the tokens alone, None: neither."""
    reply_schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class Written:
    """What came of a job."""

    prompt_ids: tuple[int, ...]
    """[S] as vLLM saw them, image tokens expanded."""
    completions: tuple[Completion, ...]
    """[n]"""
    weights: frozenset[str]
    """Labels of the weights that vLLM sampled the tokens from."""


def asked(job: Job) -> int:
    """Completions that vLLM is to write: greedy ones are all the same, and it refuses more than one."""
    return job.n if job.temperature > 0 else 1


def sampling_params(job: Job) -> Any:
    """As vLLM's own."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    return SamplingParams(
        n=asked(job),
        temperature=job.temperature,
        top_p=job.top_p,
        max_tokens=job.max_tokens,
        seed=job.seed,
        stop=list(job.stop) or None,
        logprobs=job.top_logprobs or 0,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(json=job.reply_schema) if job.reply_schema else None,
    )


def written(job: Job, output: Any, tokenizer: Any) -> Written:
    """Turn vLLM's output into completions; children of a request come in any order. Raises ModelUnavailable."""
    outputs = sorted(output.outputs, key=lambda each: each.index)
    if strange := {each.finish_reason for each in outputs} - {"stop", "length"}:
        raise ModelUnavailable(f"engine vllm: a completion ended by {strange.pop()}; ask again")
    ids = tuple(output.prompt_token_ids)
    completions = tuple(_completion(each, len(ids), job.top_logprobs, tokenizer) for each in outputs)
    completions *= job.n // len(completions)
    return Written(ids, completions, frozenset(s.version for each in outputs for s in each.weight_versions or ()))


def _completion(output: Any, prompt_tokens: int, top: int | None, tokenizer: Any) -> Completion:
    ids = tuple(output.token_ids)
    chosen = tuple(float(step[token].logprob) for step, token in zip(output.logprobs, ids, strict=True))
    told = top is not None
    return Completion(
        output.text,
        ids,
        chosen,
        output.finish_reason == "stop",
        prompt_tokens,
        top_logprobs=tuple(_likeliest(step, top, tokenizer) for step in output.logprobs) if top else (),
        tokens=tuple(tokenizer.decode([token]) for token in ids) if told else (),
    )


def _likeliest(step: Mapping[int, Any], top: int, tokenizer: Any) -> tuple[tuple[str, float], ...]:
    ranked = sorted((each.rank, token, float(each.logprob)) for token, each in step.items() if each.rank <= top)
    return tuple((tokenizer.decode([token]), logprob) for _, token, logprob in ranked[:top])
