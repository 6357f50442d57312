"""Log-probabilities of completion tokens under a policy. Axes: B sequences, S prompt, T completion, V vocabulary."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dpe_ray.errors import TrainingError
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import LoadedPolicy, render
from dpe_ray.train.batching import MicroBatch
from dpe_ray.types import Prompt

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """[B, T], zeros where the mask is 0."""

    logprobs: Tensor
    entropy: Tensor
    """Nats, of the whole distribution; no gradient."""
    likeliest: Tensor
    """1 where no other token has a higher probability; no gradient."""


class CompletionLogprobs(nn.Module):
    """The policy as a function of a micro-batch, so that the reference's weights can be put in its place."""

    def __init__(self, policy: LoadedPolicy, temperature: float, device: str = "cpu") -> None:
        super().__init__()
        self.model: Any = policy.model.to(device)
        self._processor = policy.processor
        self._temperature = temperature
        self._rendered: dict[tuple[str, str], Inputs] = {}

    def forget_prompts(self) -> None:
        """Free the decoded pictures: the next rollout batch shows others."""
        self._rendered.clear()

    def forward(self, batch: MicroBatch) -> Scored:
        """Score the completions under the sampling temperature.

        Only completion positions reach the LM head, and only completion tokens the float32 log-softmax: no [S, V]
        tensor of a prompt ever exists. Raises TrainingError when the processor tokenizes a prompt otherwise than the
        engine did.
        """
        width = batch.completion_ids.shape[1]
        logits = self.model(
            **self._inputs(batch), attention_mask=batch.attention_mask, logits_to_keep=width + 1, use_cache=False
        ).logits
        kept = batch.mask.bool()
        distribution = (logits[:, :-1][kept].float() / self._temperature).log_softmax(dim=-1)
        chosen = distribution.gather(-1, batch.completion_ids[kept][:, None])[:, 0]
        with torch.no_grad():
            spread = -(distribution.exp() * distribution).sum(dim=-1)
            first = (chosen >= distribution.amax(dim=-1)).float()
        blank = torch.zeros_like(batch.mask)
        return Scored(*(blank.masked_scatter(kept, values) for values in (chosen, spread, first)))

    def _inputs(self, batch: MicroBatch) -> Inputs:
        """Collect what the model takes beside the attention mask: ids or embeddings, and what its processor adds."""
        prompt_width = batch.input_ids.shape[1] - batch.completion_ids.shape[1]
        prompts = [
            self._render(prompt, batch.input_ids[row, :prompt_width]) for row, prompt in enumerate(batch.prompts)
        ]
        if self.model.config.model_type == "llava":
            return {"inputs_embeds": self._embed(batch, prompts)}
        inputs: Inputs = {"input_ids": self._without_sampled_placeholders(batch)}
        for key in sorted({key for prompt in prompts for key in prompt} - {"input_ids", "attention_mask"}):
            parts = []
            for prompt in (prompt for prompt in prompts if key in prompt):
                ids, part = prompt["input_ids"], prompt[key]
                left, right = prompt_width - ids.shape[1], batch.completion_ids.shape[1]
                parts.append(pad(part, (left, right)) if part.shape == ids.shape else part)
            inputs[key] = torch.cat(parts)
        return inputs

    def _embed(self, batch: MicroBatch, prompts: list[Inputs]) -> Tensor:
        """[B, S + T, H] token and picture embeddings; a group's picture is encoded once, not once per member."""
        embedded: Tensor = self.model.get_input_embeddings()(batch.input_ids)
        distinct = {id(prompt): prompt["pixel_values"] for prompt in prompts if "pixel_values" in prompt}
        if not distinct:
            return embedded
        encoded = self.model.get_image_features(pixel_values=torch.cat(list(distinct.values()))).pooler_output
        parts = torch.split(torch.stack(list(encoded)), [len(pixels) for pixels in distinct.values()])
        features = dict(zip(distinct, parts, strict=True))
        pictures = torch.cat([features[id(prompt)].flatten(0, 1) for prompt in prompts if id(prompt) in features])
        places = batch.input_ids == self.model.config.image_token_id
        places[:, -batch.completion_ids.shape[1] :] = False  # a sampled placeholder is a word like any other
        return embedded.masked_scatter(places[..., None], pictures.to(embedded.dtype))

    def _without_sampled_placeholders(self, batch: MicroBatch) -> Tensor:
        """[B, S + T] ids for models that look for their pictures at placeholders, with none among the completions.

        A hot policy can sample one; what follows it is then scored as if padding stood there.
        """
        config, tokenizer = self.model.config, self._processor.tokenizer
        names = (name for name in ("image_token_id", "video_token_id") if hasattr(config, name))
        placeholders = torch.tensor([getattr(config, name) for name in names], device=batch.input_ids.device)
        sampled = torch.isin(batch.input_ids, placeholders)
        sampled[:, : -batch.completion_ids.shape[1]] = False
        return batch.input_ids.masked_fill(sampled, tokenizer.pad_token_id or 0)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """[S] tokens of a prompt, image tokens expanded; rendered once until `forget_prompts`.

        Raises ValueError when its text holds one of the model's control tokens.
        """
        key = prompt.sample.id, prompt.text
        if key not in self._rendered:
            inputs = prompt_inputs(self._processor, prompt)
            self._rendered[key] = {name: value.to(self.model.device) for name, value in inputs.items()}
        return tuple(self._rendered[key]["input_ids"][0].tolist())

    def _render(self, prompt: Prompt, seen_by_engine: Tensor) -> Inputs:
        """Render once per rollout batch, and see that the engine rendered the same; `seen_by_engine` is left padded."""
        key = prompt.sample.id, prompt.text
        if key not in self._rendered:
            ids = self.prompt_ids(prompt)
            if tuple(seen_by_engine[-len(ids) :].tolist()) != ids:
                raise TrainingError(
                    f"sample {prompt.sample.id}: trainer and rollout engine tokenize the prompt differently; "
                    "serve and train the same checkpoint"
                )
        return self._rendered[key]


def prompt_inputs(processor: Any, prompt: Prompt) -> Inputs:
    """As `policy.render`, with the sample's pictures read and decoded. Raises PoolError when one cannot be."""
    images = [decode(read_bytes(image)) for image in prompt.sample.images]
    return render(processor, prompt.text, images)
