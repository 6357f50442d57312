"""Sampling from a policy: one prefill per prompt, shared by all its completions, then one row per completion.

transformers' own `generate` repeats the prompt for each completion, cannot seed rows and gives a batch one temperature.
Axes: P prompts, R rows (all completions of all prompts), S prompt length, T completion length, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from dpe_ray.errors import ModelError
from dpe_ray.types import Completion

_WORTH_DROPPING = 0.2
"""Share of finished rows from which copying the cache is cheaper than carrying them."""
_EDGE = 8
"""Characters at the beginning of a text cut out of tokens that may not be those of the whole text."""


@dataclass(frozen=True)
class Job:
    """One prompt and how to sample from it."""

    inputs: dict[str, Tensor]
    """As `policy.render` gives them: input_ids and attention_mask [1, S] and what the model's processor adds."""
    n: int
    temperature: float
    """0 is greedy."""
    top_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    """Alternatives to tell per token; 0: the texts of the tokens alone, None: neither."""


@dataclass
class _Row:
    """What one completion has so far."""

    job: Job
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    likeliest: list[tuple[tuple[str, float], ...]] = field(default_factory=list)
    ended: bool = False
    """By an end token or stop text, not by the limit."""


@torch.inference_mode()
def decode(model: Any, tokenizer: Any, jobs: Sequence[Job]) -> list[list[Completion]]:
    """Sample n completions for each job, in order.

    A row's draws come from its job's seed and its place among the n alone, not from its neighbours. Log-probabilities
    are natural, under the temperature-scaled distribution before top_p (greedy: temperature 1). A stop text ends a row
    and is cut from its text, not from its tokens.
    """
    room = max(job.max_tokens for job in jobs)
    rows = [_Row(job) for job in jobs for _ in range(job.n)]
    logits, cache, mask, positions = _prefill(model, _pad(jobs, tokenizer.pad_token_id or 0), jobs, room)
    draws = torch.cat([_uniforms(job, room) for job in jobs]).to(logits.device)
    settings = torch.tensor([(r.job.temperature, r.job.top_p) for r in rows], device=logits.device)
    ends = _end_tokens(model)
    live = rows
    for step in range(room):
        tokens, logprobs = _draw(logits, settings, draws[:, step])
        _record_likeliest(live, logprobs, tokenizer)
        chosen = logprobs.gather(-1, tokens[:, None])[:, 0]
        open_rows = [i for i, more in enumerate(_record(live, tokens, chosen, ends, tokenizer)) if more]
        if not open_rows:
            break
        if len(open_rows) <= (1 - _WORTH_DROPPING) * len(live):
            keep = torch.tensor(open_rows, device=logits.device)
            cache.batch_select_indices(keep)
            live = [live[i] for i in open_rows]
            tokens, mask, settings, draws = tokens[keep], mask[keep], settings[keep], draws[keep]
            positions = positions[..., keep, :]
        positions = positions + 1
        seen = mask[..., : mask.shape[-1] - room + step + 1]
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=seen,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    written = iter([_completion(row, tokenizer) for row in rows])
    return [[next(written) for _ in range(job.n)] for job in jobs]


def _pad(jobs: Sequence[Job], pad: int) -> dict[str, Tensor]:
    """Put prompts [1, S] side by side, padded on the left; pictures and their grids follow each other."""
    longest = max(job.inputs["input_ids"].shape[1] for job in jobs)
    inputs: dict[str, Tensor] = {}
    for key in {key: None for job in jobs for key in job.inputs}:
        if any(key in job.inputs and job.inputs[key].shape == job.inputs["input_ids"].shape for job in jobs):
            filler = pad if key == "input_ids" else 0
            texts = [job.inputs.get(key, torch.zeros_like(job.inputs["input_ids"])) for job in jobs]
            parts = [torch.nn.functional.pad(text, (longest - text.shape[1], 0), value=filler) for text in texts]
        else:
            parts = [job.inputs[key] for job in jobs if key in job.inputs]
        inputs[key] = torch.cat(parts)
    return inputs


def _prefill(model: Any, inputs: dict[str, Tensor], jobs: Sequence[Job], room: int) -> tuple[Any, ...]:
    """Run every prompt once, then give each completion its own row: logits [R, V], cache, mask [R, 1, 1, S + T]."""
    inputs = {key: value.to(model.device) for key, value in inputs.items()}
    inputs = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], inputs)  # m-RoPE models: [4, P, S]
    output = model(**inputs, position_ids=positions, use_cache=True, logits_to_keep=1)
    owner = torch.repeat_interleave(torch.tensor([job.n for job in jobs])).to(model.device)
    layers = output.past_key_values.layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        raise ModelError("engine transformers: full attention only; serve this model with another engine")
    cache = Cache(layers=[_Growing(layer.keys[owner], layer.values[owner], room) for layer in layers])
    padding = torch.nn.functional.pad(inputs["attention_mask"], (0, room), value=1)[owner, None, None] == 0
    mask = torch.zeros(padding.shape, dtype=model.dtype, device=model.device)
    mask.masked_fill_(padding, torch.finfo(model.dtype).min)
    return output.logits[owner, -1], cache, mask, positions[..., owner, -1:]


class _Growing(DynamicLayer):
    """Keys and values with room for the completions: a step writes in place instead of copying all that was."""

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._length = keys.shape[-2]
        self._keys = torch.nn.functional.pad(keys, (0, 0, 0, room))
        self._values = torch.nn.functional.pad(values, (0, 0, 0, room))
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self._length = self._length, self._length + key_states.shape[-2]
        self._keys[:, :, start : self._length] = key_states
        self._values[:, :, start : self._length] = value_states
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self._keys[:, :, : self._length], self._values[:, :, : self._length]
        return self.keys, self.values


def _draw(logits: Tensor, settings: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Pick a token [R] per row by inverting its distribution [R, V], which comes back too, at its uniform number."""
    temperature, top_p = settings[:, :1], settings[:, 1:]
    greedy = temperature <= 0
    logprobs = torch.log_softmax(logits.float() / torch.where(greedy, 1.0, temperature), -1)
    if bool(greedy.all()):
        tokens = logprobs.argmax(-1)
    else:
        probs = logprobs.exp()
        if bool((top_p < 1).any()):
            probs = _nucleus(probs, top_p)
        heights = probs.cumsum(-1, dtype=torch.float64)
        drawn = torch.searchsorted(heights, uniforms[:, None] * heights[:, -1:], right=True)
        tokens = torch.where(greedy, logprobs.argmax(-1, keepdim=True), drawn.clamp(max=probs.shape[-1] - 1))[:, 0]
    return tokens, logprobs


def _nucleus(probs: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the likeliest tokens that reach `top_p` together; the likeliest always stays."""
    ordered, order = probs.sort(-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    outside[:, 0] = False
    return probs.masked_fill(outside.scatter(-1, order, outside), 0.0)


def _uniforms(job: Job, room: int) -> Tensor:
    """Numbers in [0, 1) for every completion and step, [n, T]."""
    generator = torch.Generator().manual_seed(job.seed)
    drawn = torch.rand(job.n, job.max_tokens, generator=generator, dtype=torch.float64)
    return torch.nn.functional.pad(drawn, (0, room - job.max_tokens))


def _record_likeliest(rows: Sequence[_Row], logprobs: Tensor, tokenizer: Any) -> None:
    """Write the likeliest tokens of a step into the rows that ask for them; before `_record`, which may end a row."""
    most = max((row.job.top_logprobs or 0 for row in rows), default=0)
    if not most:
        return
    values, tokens = logprobs.topk(min(most, logprobs.shape[-1]), -1)
    for row, row_values, row_tokens in zip(rows, values.tolist(), tokens.tolist(), strict=True):
        if (wanted := row.job.top_logprobs) and not row.ended and len(row.tokens) < row.job.max_tokens:
            texts = [tokenizer.decode([token]) for token in row_tokens[:wanted]]
            row.likeliest.append(tuple(zip(texts, row_values[:wanted], strict=True)))


def _record(rows: Sequence[_Row], tokens: Tensor, logprobs: Tensor, ends: frozenset[int], tokenizer: Any) -> list[bool]:
    """Write a step into its rows; True for rows that go on."""
    goes_on = []
    for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
        if not row.ended and len(row.tokens) < row.job.max_tokens:
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.ended = token in ends or (bool(row.job.stop) and _stops(row, tokenizer))
        goes_on.append(not row.ended and len(row.tokens) < row.job.max_tokens)
    return goes_on


def _stops(row: _Row, tokenizer: Any) -> bool:
    """Whether the newest token completes a stop text; what came before had none.

    It reads the last tokens only, as many as a stop text may reach back. Texts that begin in the middle differ at their
    edge from the whole one (half characters, a space that is left out), so there is some more, and a hit is looked up
    in the whole text.
    """
    reach = max(map(len, row.job.stop)) + _EDGE
    count = reach + 1
    while count < len(row.tokens):
        before = tokenizer.decode(row.tokens[-count:-1], skip_special_tokens=True)
        if len(before) >= reach:
            tail = tokenizer.decode(row.tokens[-count:], skip_special_tokens=True)
            if not any(stop in tail for stop in row.job.stop):
                return False
            break
        count *= 2
    return _stop_at(row, tokenizer) >= 0


def _stop_at(row: _Row, tokenizer: Any) -> int:
    text = tokenizer.decode(row.tokens, skip_special_tokens=True)
    return min((at for at in (text.find(stop) for stop in row.job.stop) if at >= 0), default=-1)


def _completion(row: _Row, tokenizer: Any) -> Completion:
    text = tokenizer.decode(row.tokens, skip_special_tokens=True)
    if row.job.stop and (at := _stop_at(row, tokenizer)) >= 0:
        text = text[:at]
    told = row.job.top_logprobs is not None
    return Completion(
        text,
        tuple(row.tokens),
        tuple(row.logprobs),
        row.ended,
        row.job.inputs["input_ids"].shape[1],
        top_logprobs=tuple(row.likeliest),
        tokens=tuple(tokenizer.decode([token]) for token in row.tokens) if told else (),
    )


def _end_tokens(model: Any) -> frozenset[int]:
    stated = model.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [stated]
    return frozenset(token for token in ends if token is not None)
