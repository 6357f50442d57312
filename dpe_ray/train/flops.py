"""Floating-point operations of the forward and backward passes of a policy, counted from its tokens.

    forward    2 W n
    backward   2 W n   where the part, or one before it, is trained: gradients of what the part was given
             + 2 T n   gradients of the part's own trained weights

summed over picture tower, projector, language model and head. W is the number of weights in the part's matrices
(embedding tables are looked up, not multiplied), T of those that are trained, n the tokens that the part computes. So
full tuning costs three forward passes, an adapter two and a little (Kaplan et al., arXiv 2001.08361, section 2.1, has
2 W a token forward and twice that backward).

Tokens are deduplicated: in a micro-batch a prompt and its pictures count once however it is run, padding never, and the
head computes completion tokens alone. Products of queries and keys, and what gradient checkpointing computes again, do
not count: what is made of these numbers is a lower bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dpe_ray.models.adapter import part_of
from dpe_ray.train.batching import MicroBatch
from dpe_ray.train.image_tokens import patches, placeholders
from dpe_ray.train.rendering import RenderedPrompts

PARTS = ("tower", "projector", "language", "head")
"""In the order in which they compute."""
Tokens = Mapping[str, int]
"""What each of PARTS computes in one pass."""


def tokens_of(batch: MicroBatch, prompts: RenderedPrompts, config: Any) -> Tokens:
    """Count what a micro-batch that has been run is made of; sequences without weight do not count."""
    counted = [row for row, weight in enumerate(batch.weights.tolist()) if weight]
    distinct = {id(inputs): inputs for row in counted for inputs in [prompts.inputs(batch.prompts[row])]}
    completions = int(batch.mask[counted].sum())
    return {
        "tower": sum(patches(config, inputs) for inputs in distinct.values()),
        "projector": sum(placeholders(config, inputs) for inputs in distinct.values()),
        "language": sum(inputs["input_ids"].shape[1] for inputs in distinct.values()) + completions,
        "head": completions,
    }


@dataclass(frozen=True)
class PartWeights:
    """Weights in the matrices of a part."""

    all: int = 0
    trained: int = 0


class Flops:
    """Counts for one policy, whose weights it looks at once: before they are cut into shards."""

    def __init__(self, model: Any) -> None:
        self.weights = {part: PartWeights() for part in PARTS}
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        for name, weight in model.named_parameters():
            part = part_of(name)
            replaced = ".original_module." in name  # what an adapter carries whole computes in its place
            if part and weight.dim() > 1 and id(weight) not in tables and not replaced:
                self._add(part, weight)
        self._add("head", model.get_output_embeddings().weight)

    def of_pass(self, tokens: Tokens, *, backward: bool) -> float:
        """Operations of a forward pass, with the backward pass if asked."""
        total, flows = 0.0, False
        for part in PARTS:
            weights = self.weights[part]
            flows = flows or weights.trained > 0
            total += 2.0 * tokens[part] * (weights.all + backward * (flows * weights.all + weights.trained))
        return total

    def _add(self, part: str, weight: nn.Parameter) -> None:
        before, count = self.weights[part], _numbers(weight)
        self.weights[part] = PartWeights(before.all + count, before.trained + weight.requires_grad * count)


def _numbers(weight: Any) -> int:
    """Of a matrix, also of one that is held in 4 bits, two in a byte."""
    shape: Any = weight.quant_state.shape if getattr(weight, "quant_state", None) else weight.shape
    return int(shape.numel())
