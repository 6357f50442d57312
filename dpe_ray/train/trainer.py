"""One GRPO update after another on one policy. No Ray, no rollouts, no files: groups in, weights and numbers out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpe_ray.models.policy import LoadedPolicy, pad_token
from dpe_ray.train.backends import open_backend
from dpe_ray.train.balance import dealt, in_step
from dpe_ray.train.batching import MicroBatch, collate, idle, informative, pack, split_updates
from dpe_ray.train.flops import Flops, tokens_of
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.train.objectives.loss import TokenLogprobs, grpo_loss
from dpe_ray.train.objectives.mean import denominator
from dpe_ray.train.optimizer import UpdateRule
from dpe_ray.train.reference import Reference
from dpe_ray.train.schedule import Schedule
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.world import World
from dpe_ray.types import RolloutGroup


class GrpoTrainer:
    """Updates a policy in place.

    The reference is a frozen copy of the weights that are trained, taken when the trainer is built: the policy at the
    start of the round, not the base below an adapter.
    """

    def __init__(self, policy: LoadedPolicy, settings: GrpoSettings, world: World | None = None) -> None:
        self.policy = policy
        self.settings = settings
        self.world = world or World()
        # Dropout would make old and new log-probs differ with equal weights: training runs in eval mode.
        self._module = CompletionLogprobs(
            policy,
            settings.temperature,
            packing=settings.shared_prefix == "auto",
            checkpointing=settings.gradient_checkpointing,
        ).eval()
        self._flops = Flops(policy.model)
        rule = UpdateRule(lambda name: settings.lr, settings.weight_decay, settings.max_grad_norm)
        self.backend = open_backend(settings.backend, self._module, rule, self.world, settings.device)
        updates = settings.steps * settings.updates_per_step
        self._schedule = Schedule(self.backend.optimizer, settings.schedule, warmup=settings.warmup, updates=updates)
        self.reference = Reference(self.backend.parts if settings.kl else {})
        self._pad_id = pad_token(policy.processor)

    def step(self, groups: Sequence[RolloutGroup]) -> dict[str, float]:
        """Make `updates_per_step` updates from scored rollouts of the current weights; returns metrics of all ranks.

        Each rank passes its `World.share`, at least one group; what is left of all is dealt out anew. Raises
        TrainingError when the loss is not finite; the weights are then as they were before that update.
        """
        self._module.prompts.forget()
        everyones = self.world.rejoined(groups)
        kept = informative(everyones) if self.settings.drop_equal_groups else everyones
        spare = next((group for group in everyones if group.prompt.sample.images), everyones[0])
        parts = split_updates(kept, self.settings.updates_per_step)
        updates = [self._micro_batches(dealt(part, self.world), spare) for part in parts]
        # With one update the weights have not moved since the rollouts: old is new, and needs no pass of its own.
        old = [[self._score(batch) if len(updates) > 1 else None for batch in update] for update in updates]
        sums: Counter[str] = Counter()
        rate = self._schedule.rate
        for part, update, old_logprobs in zip(parts, updates, old, strict=True):
            sums.update(self._update(sum(len(group.rollouts) for group in part), update, old_logprobs))
            self._schedule.advance()
        kl = {"kl": sums["kl"] / max(sums["tokens"], 1.0)} if self.settings.kl else {}
        dropped = {"groups_dropped": float(len(everyones) - len(kept))}
        return _metrics(sums) | kl | dropped | {"learning_rate": rate}

    def state(self) -> dict[str, Any]:
        """Weights, optimiser and schedule: what `load_state` takes. All ranks call it, rank 0 gets it."""
        return self.backend.state() | {"schedule": self._schedule.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`; the reference stays the policy that the trainer was built from."""
        self.backend.load_state(state)
        self._schedule.load_state(state["schedule"])

    def _micro_batches(self, groups: Sequence[RolloutGroup], spare: RolloutGroup) -> list[MicroBatch]:
        """Pad this rank's share of one update so that every rank runs the same forward passes."""
        packed = in_step(pack(groups, self.settings), idle(spare), self.world)
        return [collate(part, self._pad_id, self.settings.device) for part in packed]

    def _score(self, batch: MicroBatch) -> Tensor:
        """Log-probabilities under the weights that are in place, without gradient."""
        with torch.no_grad():
            return self.backend.score(batch).logprobs

    def _reference_score(self, batch: MicroBatch) -> Tensor:
        with self.reference.in_place():
            return self._score(batch)

    def _update(self, sequences: int, batches: Sequence[MicroBatch], old: Iterable[Tensor | None]) -> dict[str, float]:
        """Make one optimiser update, none without tokens; returns sums over all ranks for `_metrics`.

        `sequences` are those of all ranks, with those that are left out as truncated.
        """
        settings = self.settings
        (tokens,) = self.world.total(sum(map(_tokens, batches)))
        if not tokens:
            return {}
        share = denominator(settings.loss_mean, sequences, tokens, settings.max_tokens)
        sums: Counter[str] = Counter()
        for batch, old_logprobs in zip(batches, old, strict=True):
            sums.update(self._backward(batch, old_logprobs, share, last=batch is batches[-1]))
        names = sorted(sums)
        totals = dict(zip(names, self.world.total(*(sums[name] for name in names)), strict=True))
        norm = self.backend.step(totals["loss"])
        return totals | {"grad_norm": norm, "updates": 1.0}

    def _backward(self, batch: MicroBatch, old: Tensor | None, share: float, *, last: bool) -> dict[str, float]:
        reference = self._reference_score(batch) if self.settings.kl else None
        scored = self.backend.score(batch)
        start = scored.logprobs.detach() if old is None else old
        logprobs = TokenLogprobs(scored.logprobs, start, batch.rollout_logprobs, reference)
        loss, sums = grpo_loss(logprobs, batch.advantages, batch.mask, batch.weights, self.settings, denominator=share)
        self.backend.backward(loss, last=last)
        entropy = (scored.entropy * batch.weights[:, None]).sum()
        told = {name: float(value) for name, value in (sums | {"loss": loss.detach(), "entropy": entropy}).items()}
        return told | {"flops": self._operations(batch, old, reference)}

    def _operations(self, batch: MicroBatch, *scores: Tensor | None) -> float:
        """Of the pass that was just made, and of those without gradient that gave `scores`; see `flops`."""
        tokens = tokens_of(batch, self._module.prompts, self.policy.model.config)
        passes = sum(score is not None for score in scores)
        alone = self._flops.of_pass(tokens, backward=False)
        return self._flops.of_pass(tokens, backward=True) + passes * alone


def _tokens(batch: MicroBatch) -> float:
    """Completion tokens that count."""
    return float((batch.mask * batch.weights[:, None]).sum())


def _metrics(sums: Counter[str]) -> dict[str, float]:
    """Turn sums over the updates of a step into means per token or per update, under TRL's names."""
    tokens, updates = max(sums["tokens"], 1.0), max(sums["updates"], 1.0)
    return {
        "loss": sums["loss"] / updates,
        "grad_norm": sums["grad_norm"] / updates,
        "clip_ratio": (sums["clipped_low"] + sums["clipped_high"]) / tokens,
        "clip_ratio/low_mean": sums["clipped_low"] / tokens,
        "clip_ratio/high_mean": sums["clipped_high"] / tokens,
        "clip_ratio_dual": sums["clipped_dual"] / tokens,
        "rollout_ratio_truncated": sums["truncated"] / tokens,
        "logprob_gap": sums["gap"] / tokens,
        "entropy": sums["entropy"] / tokens,
        "update_tflop": sums["flops"] / 1e12,
    }
