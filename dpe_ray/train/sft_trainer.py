"""One supervised update after another on one policy: prompts with answered samples in, weights and numbers out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from dpe_ray.models.adapter import in_projector
from dpe_ray.models.policy import LoadedPolicy, answer_ids, pad_token
from dpe_ray.train.backends import open_backend
from dpe_ray.train.balance import in_step
from dpe_ray.train.batching import MicroBatch, TrainingSequence, collate, cut
from dpe_ray.train.flops import Flops, tokens_of
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.train.metrics import Metrics
from dpe_ray.train.optimizer import UpdateRule
from dpe_ray.train.rationales import has_rationale
from dpe_ray.train.schedule import Schedule
from dpe_ray.train.settings import SftSettings
from dpe_ray.train.targets import completion_text
from dpe_ray.train.world import World
from dpe_ray.types import Prompt


class SftTrainer:
    """Updates a policy in place. Loss is on completion tokens only, and each of an update's counts once.

        loss = - sum over completion tokens of log p(token | image, prompt, tokens before) / completion tokens

    Both sums run over all micro-batches and ranks of the update, so how they are cut does not matter.
    """

    def __init__(self, policy: LoadedPolicy, settings: SftSettings, steps: int, world: World | None = None) -> None:
        """`steps` is the length of the learning-rate schedule in updates."""
        self.policy = policy
        self.settings = settings
        self.world = world or World()
        self._module = CompletionLogprobs(
            policy,
            1.0,
            packing=settings.shared_prefix == "auto",
            checkpointing=settings.gradient_checkpointing,
        ).eval()
        self._flops = Flops(policy.model)
        rule = UpdateRule(self._rate, settings.weight_decay, settings.max_grad_norm)
        self.backend = open_backend(settings.backend, self._module, rule, self.world, settings.device)
        self._pad_id = pad_token(policy.processor)
        self._schedule = Schedule(self.backend.optimizer, "cosine", warmup=settings.warmup, updates=steps)

    def sequence(self, prompt: Prompt) -> TrainingSequence:
        """Tokens of a prompt and of its sample's completion. Raises ValueError when a text holds a control token."""
        completion = answer_ids(self.policy, completion_text(prompt.sample))
        return TrainingSequence(prompt, self._module.prompts.ids(prompt), completion, (0.0,) * len(completion), 0.0)

    def step(self, prompts: Sequence[Prompt], spare: Prompt) -> Metrics:
        """Make one update; returns metrics of all ranks, under TRL's names.

        Each rank passes its own share, which may be empty. `spare` is a prompt, with pictures where there is one: a
        rank that has fewer micro-batches than another runs it without weight. Raises TrainingError when the loss is not
        finite; the weights then stay.
        """
        self._module.prompts.forget()
        batches = self._micro_batches(prompts, spare)
        local = sum(float(_counted(batch).sum()) for batch in batches)
        (tokens,) = self.world.total(local)
        sums: Counter[str] = Counter(sequences=len(prompts), rationales=sum(map(has_rationale, prompts)))
        for batch in batches:
            sums.update(self._backward(batch, tokens, last=batch is batches[-1]))
        names = sorted(sums)
        totals = self.world.total(*(float(sums[name]) for name in names))
        summed = dict(zip(names, totals, strict=True))
        rate = self._schedule.rate
        norm = self.backend.step(summed["loss"])
        self._schedule.advance()
        return {
            "loss": summed["loss"],
            "mean_token_accuracy": summed["right"] / tokens,
            "entropy": summed["entropy"] / tokens,
            "learning_rate": rate,
            "grad_norm": norm,
            "num_tokens": summed["all_tokens"],
            "update_tflop": summed["flops"] / 1e12,
            "rationale_share": summed["rationales"] / summed["sequences"],
        }

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and schedule: what `load_state` takes. All ranks call it, rank 0 gets it."""
        return self.backend.state() | {"schedule": self._schedule.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`."""
        self.backend.load_state(state)
        self._schedule.load_state(state["schedule"])

    def _rate(self, weight: str) -> float:
        return self.settings.projector_lr or self.settings.lr if in_projector(weight) else self.settings.lr

    def _micro_batches(self, prompts: Sequence[Prompt], spare: Prompt) -> list[MicroBatch]:
        """Sort by length, cut, and pad so that every rank runs the same forward passes."""
        parts = cut(sorted(map(self.sequence, prompts), key=lambda s: s.length), self.settings.micro_batch)
        padded = in_step(parts, [replace(self.sequence(spare), weight=0.0)], self.world)
        return [collate(part, self._pad_id, self.settings.device) for part in padded]

    def _backward(self, batch: MicroBatch, counted_tokens: float, *, last: bool) -> dict[str, float]:
        scored = self.backend.score(batch)
        counted = _counted(batch)
        loss = -(scored.logprobs * counted).sum() / counted_tokens
        self.backend.backward(loss, last=last)
        tokens = tokens_of(batch, self._module.prompts, self.policy.model.config)
        return {
            "loss": float(loss.detach()),
            "flops": self._flops.of_pass(tokens, backward=True),
            "right": float((scored.likeliest * counted).sum()),
            "entropy": float((scored.entropy * counted).sum()),
            "all_tokens": float((batch.attention_mask * batch.weights[:, None]).sum()),
        }


def _counted(batch: MicroBatch) -> Tensor:
    """[B, T], 1 at completion tokens that carry loss."""
    return batch.mask * batch.weights[:, None]
