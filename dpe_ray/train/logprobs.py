"""Log-probabilities of completion tokens under a policy. Axes: B sequences, S prompt, T completion, V vocabulary."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad
from torch.utils.checkpoint import checkpoint

from dpe_ray.models.policy import LoadedPolicy
from dpe_ray.train.batching import MicroBatch
from dpe_ray.train.packed import pack_row, packed_size
from dpe_ray.train.prefix_attention import enable
from dpe_ray.train.recomputing import recomputed_layers
from dpe_ray.train.rendering import Inputs, RenderedPrompts

log = logging.getLogger(__name__)

LOGITS_AT_ONCE = 2**26
"""256 MB in float32."""
LEAST_GAIN = 1.15
"""Times fewer tokens from which a packed row is faster than padded rows; its attention gathers keys first."""
PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids")
"""What a processor gives per token of a prompt; all else is about its pictures."""
GRIDS = ("mm_token_type_ids", "image_grid_thw")
"""What positions of picture tokens follow from."""


@dataclass(frozen=True)
class Scored:
    """[B, T], zeros where the mask is 0."""

    logprobs: Tensor
    entropy: Tensor
    """Nats, of the whole distribution; no gradient."""
    likeliest: Tensor
    """1 where no other token has a higher probability; no gradient."""


class CompletionLogprobs(nn.Module):
    """The policy as a function of a micro-batch, so that the reference's weights can be put in its place.

    Runs it as one packed row, where each prompt and its pictures stand once for all completions, or as padded rows:
    whichever has clearly fewer tokens. Both give the same numbers up to rounding.
    """

    def __init__(
        self, policy: LoadedPolicy, temperature: float, *, packing: bool = True, checkpointing: bool = False
    ) -> None:
        """`checkpointing`: layers compute their activations again in the backward pass, in eval mode too."""
        super().__init__()
        self.model: Any = policy.model
        self._processor = policy.processor
        self.prompts = RenderedPrompts(policy)
        self._temperature = temperature
        self.agree: Callable[[int], int] = lambda count: count
        """Largest of a number over ranks, for backends that gather the head for every call of it."""
        self._recomputed = recomputed_layers(self._base) if checkpointing else []
        refusal = enable(self._base) if packing else ""
        self._packing = packing and not refusal
        if refusal:
            log.warning("training computes a prompt once per completion, not once per group: %s", refusal)

    def train(self, mode: bool = True) -> Self:
        """As in torch. transformers computes activations again in training mode only, which is asked of a layer itself.

        What is in a layer stays in the mode that was asked for: no dropout in eval mode.
        """
        super().train(mode)
        for layer in self._recomputed:
            layer.training = True
        return self

    def forward(self, batch: MicroBatch) -> Scored:
        """Score the completions under the sampling temperature.

        Only what completion tokens are predicted from reaches the LM head: no [S, V] tensor of a prompt ever exists.
        Raises TrainingError when the processor tokenizes a prompt otherwise than the engine did.
        """
        kept = batch.mask.bool()
        held = [self.prompts.seen(*seen) for seen in zip(batch.prompts, batch.prompt_ids, strict=True)]
        distinct = {id(prompt): prompt for prompt in held}
        numbers = {key: number for number, key in enumerate(distinct)}
        owners = [numbers[id(prompt)] for prompt in held]
        prompts = [_on(batch.input_ids.device, prompt) for prompt in distinct.values()]
        if self._packing and batch.input_ids.numel() >= LEAST_GAIN * packed_size(batch, owners):
            states = self._packed_states(batch, owners, prompts)
        else:
            states = self._padded_states(batch, [prompts[owner] for owner in owners])[kept]
        scores = self._scores(states, batch.completion_ids[kept])
        blank = torch.zeros_like(batch.mask)
        return Scored(*(blank.masked_scatter(kept, values) for values in scores))

    def _scores(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """[M] log-probability, entropy and being likeliest of `tokens` [M], predicted from `states` [M, H].

        Large vocabularies go in chunks whose logits the backward pass computes again, so that one chunk's are in memory
        at a time.
        """
        head = self._base.get_output_embeddings() if self._packing else nn.Identity()
        score = partial(_token_scores, head, self._temperature)
        rows = max(1, LOGITS_AT_ONCE // self._base.config.get_text_config().vocab_size)
        count = self.agree(-(-len(states) // rows))
        if count <= 1:
            return score(states, tokens)
        chunks = [
            checkpoint(score, *chunk, use_reentrant=False)
            for chunk in zip(states.tensor_split(count), tokens.tensor_split(count), strict=True)
        ]
        return tuple(torch.cat(values) for values in zip(*chunks, strict=True))

    @property
    def _base(self) -> Any:
        """The transformers model, with its adapter's layers in place."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def _packed_states(self, batch: MicroBatch, owners: list[int], prompts: list[Inputs]) -> Tensor:
        """[M, H] that completion tokens are predicted from, of one row with each of the distinct `prompts` once."""
        row = pack_row(batch, owners, self.model.dtype)
        if self._base.config.model_type == "llava":
            inputs = {"inputs_embeds": self._embed(row.ids, row.in_prompt, prompts)}
        else:
            inputs = {"input_ids": self._without_sampled_placeholders(row.ids, row.in_prompt)}
            names = sorted({name for prompt in prompts for name in prompt if name not in PER_TOKEN})
            inputs |= {name: torch.cat([prompt[name] for prompt in prompts if name in prompt]) for name in names}
        positions = row.positions([self._positions(prompt) for prompt in prompts])
        states: Tensor = self._base.model(
            **inputs,
            position_ids=positions if len(positions) > 1 else positions[0],
            attention_mask=row.mask,
            packed_row=row,
            use_cache=False,
        ).last_hidden_state
        return embedding(row.before, states[0])

    def _positions(self, prompt: Inputs) -> Tensor:
        """[K, S] positions of a prompt's tokens: K is 3 for models that place pictures in time, height and width."""
        ids = prompt["input_ids"]
        if "image_grid_thw" in prompt:
            grids = {name: value for name, value in prompt.items() if name in GRIDS}
            placed: Tensor = self._base.model.get_rope_index(ids, **grids)[0][:, 0]
            return placed
        kinds = 1 if self._base.config.model_type == "llava" else 3
        return torch.arange(ids.shape[1], device=ids.device).expand(kinds, -1)

    def _padded_states(self, batch: MicroBatch, prompts: list[Inputs]) -> Tensor:
        """[B, T, H] that completion tokens are predicted from, every sequence in a row of its own.

        [B, T, V] logits of models that may do more than apply a matrix to their states.
        """
        width = batch.completion_ids.shape[1]
        inputs = self._padded_inputs(batch, prompts) | {"attention_mask": batch.attention_mask, "use_cache": False}
        if self._packing:
            states: Tensor = self._base.model(**inputs).last_hidden_state
        else:
            states = self.model(**inputs, logits_to_keep=width + 1).logits
        return states[:, -width - 1 : -1]

    def _padded_inputs(self, batch: MicroBatch, prompts: list[Inputs]) -> Inputs:
        """Collect what the model takes beside the attention mask: ids or embeddings, and what its processor adds."""
        width = batch.completion_ids.shape[1]
        prompt_width = batch.input_ids.shape[1] - width
        in_prompt = torch.ones_like(batch.input_ids, dtype=torch.bool)
        in_prompt[:, prompt_width:] = False
        if self.model.config.model_type == "llava":
            return {"inputs_embeds": self._embed(batch.input_ids, in_prompt, prompts)}
        inputs: Inputs = {"input_ids": self._without_sampled_placeholders(batch.input_ids, in_prompt)}
        for key in sorted({key for prompt in prompts for key in prompt} - {"input_ids", "attention_mask"}):
            parts = []
            for prompt in (prompt for prompt in prompts if key in prompt):
                ids, part = prompt["input_ids"], prompt[key]
                left = prompt_width - ids.shape[1]
                parts.append(pad(part, (left, width)) if part.shape == ids.shape else part)
            inputs[key] = torch.cat(parts)
        return inputs

    def _embed(self, ids: Tensor, in_prompt: Tensor, prompts: list[Inputs]) -> Tensor:
        """[..., H] token and picture embeddings of rows that show `prompts` in order.

        A prompt's pictures are encoded once, however often it stands there.
        """
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        distinct = {id(prompt): prompt["pixel_values"] for prompt in prompts if "pixel_values" in prompt}
        if not distinct:
            return embedded
        encoded = self.model.get_image_features(pixel_values=torch.cat(list(distinct.values()))).pooler_output
        parts = torch.split(torch.stack(list(encoded)), [len(pixels) for pixels in distinct.values()])
        features = dict(zip(distinct, parts, strict=True))
        pictures = torch.cat([features[id(prompt)].flatten(0, 1) for prompt in prompts if id(prompt) in features])
        # A sampled placeholder is a word like any other.
        places = (ids == self.model.config.image_token_id) & in_prompt
        return embedded.masked_scatter(places[..., None], pictures.to(embedded.dtype))

    def _without_sampled_placeholders(self, ids: Tensor, in_prompt: Tensor) -> Tensor:
        """Ids for models that look for their pictures at placeholders, with none among the completions.

        A hot policy can sample one; what follows it is then scored as if padding stood there.
        """
        config, tokenizer = self.model.config, self._processor.tokenizer
        names = (name for name in ("image_token_id", "video_token_id") if hasattr(config, name))
        placeholders = torch.tensor([getattr(config, name) for name in names], device=ids.device)
        return ids.masked_fill(torch.isin(ids, placeholders) & ~in_prompt, tokenizer.pad_token_id or 0)


def _on(device: torch.device, inputs: Inputs) -> Inputs:
    return {name: value.to(device) for name, value in inputs.items()}


def _token_scores(head: nn.Module, temperature: float, states: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
    distribution = (head(states).float() / temperature).log_softmax(dim=-1)
    chosen = distribution.gather(-1, tokens[:, None])[:, 0]
    with torch.no_grad():
        spread = -(distribution.exp() * distribution).sum(dim=-1)
        first = (chosen >= distribution.amax(dim=-1)).float()
    return chosen, spread, first
