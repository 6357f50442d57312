"""One GRPO update after another on one policy. No Ray, no rollouts, no files: groups in, weights and numbers out."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from dpe_ray.models.policy import LoadedPolicy, pad_token
from dpe_ray.train.batching import MicroBatch, collate, idle, informative, pack, split_updates
from dpe_ray.train.logprobs import CompletionLogprobs, Scored
from dpe_ray.train.objectives.loss import TokenLogprobs, grpo_loss
from dpe_ray.train.objectives.mean import denominator
from dpe_ray.train.optimizer import (
    DataParallelOptimizer,
    Weights,
    load_weights,
    rate_groups,
    save_weights,
    trainable_weights,
)
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
            policy, settings.temperature, settings.device, packing=settings.shared_prefix == "auto"
        ).eval()
        self.weights: Weights = trainable_weights(self._module)
        self.reference: Weights = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._pad_id = pad_token(policy.processor)
        self._optimizer = DataParallelOptimizer(
            rate_groups(self.weights, lambda name: settings.lr),
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            world=self.world,
        )

    def step(self, groups: Sequence[RolloutGroup]) -> dict[str, float]:
        """Make `updates_per_step` updates from scored rollouts of the current weights; returns metrics of all ranks.

        Each rank passes its own, at least one group. Raises TrainingError when the loss is not finite; the weights are
        then as they were before that update.
        """
        self._module.forget_prompts()
        kept = informative(groups) if self.settings.drop_equal_groups else list(groups)
        parts = split_updates(kept, self.settings.updates_per_step)
        updates = [self._micro_batches(part, groups[0]) for part in parts]
        # With one update the weights have not moved since the rollouts: old is new, and needs no pass of its own.
        old = [[self._score(batch).logprobs if len(updates) > 1 else None for batch in update] for update in updates]
        sums: Counter[str] = Counter()
        for part, update, old_logprobs in zip(parts, updates, old, strict=True):
            sums.update(self._update(sum(len(group.rollouts) for group in part), update, old_logprobs))
        dropped = self.world.total(len(groups) - len(kept), device=self.settings.device)[0]
        kl = {"kl": sums["kl"] / max(sums["tokens"], 1.0)} if self.settings.kl else {}
        return _metrics(sums) | kl | {"groups_dropped": dropped}

    def reference_hash(self) -> str:
        """SHA-256 of the reference's weights: stays the same for the whole round."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.reference.items()):
            digest.update(name.encode())
            digest.update(weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """Weights and optimiser, to go on from: what `load_state` takes."""
        return {"weights": save_weights(self.weights), "optimizer": self._optimizer.torch.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`; the reference stays the policy that the trainer was built from."""
        load_weights(self.weights, state["weights"])
        self._optimizer.torch.load_state_dict(state["optimizer"])

    def _micro_batches(self, groups: Sequence[RolloutGroup], spare: RolloutGroup) -> list[MicroBatch]:
        """Pad this rank's share of one update so that every rank runs the same number of forward passes.

        Ranks with unequal numbers would pair their sums wrongly without an error (seen with FSDP2 on gloo).
        """
        device = self.settings.device
        packed = pack(groups, self.settings)
        missing = self.world.largest(len(packed), device=device) - len(packed)
        return [collate(part, self._pad_id, device) for part in packed + [idle(spare)] * missing]

    def _score(self, batch: MicroBatch, weights: Weights | None = None) -> Scored:
        """Without gradient, under the current or the given weights."""
        with torch.no_grad():
            scored: Scored = functional_call(self._module, weights or {}, (batch,))
        return scored

    def _update(self, sequences: int, batches: Sequence[MicroBatch], old: Iterable[Tensor | None]) -> dict[str, float]:
        """Make one optimiser update, none without tokens; returns sums over all ranks for `_metrics`.

        `sequences` are this rank's, those that are left out as truncated with them.
        """
        settings = self.settings
        counted, tokens = self.world.total(sequences, sum(map(_tokens, batches)), device=settings.device)
        if not tokens:
            return {}
        share = denominator(settings.loss_mean, counted, tokens, settings.max_tokens)
        self._optimizer.zero_grad()
        sums: Counter[str] = Counter()
        for batch, old_logprobs in zip(batches, old, strict=True):
            sums.update(self._backward(batch, old_logprobs, share))
        names = sorted(sums)
        totals = dict(
            zip(names, self.world.total(*(sums[name] for name in names), device=settings.device), strict=True)
        )
        norm = self._optimizer.step(totals["loss"])
        return totals | {"grad_norm": norm, "updates": 1.0}

    def _backward(self, batch: MicroBatch, old: Tensor | None, share: float) -> dict[str, float]:
        scored = self._module(batch)
        reference = self._score(batch, self.reference).logprobs if self.settings.kl else None
        start = scored.logprobs.detach() if old is None else old
        logprobs = TokenLogprobs(scored.logprobs, start, batch.rollout_logprobs, reference)
        loss, sums = grpo_loss(logprobs, batch.advantages, batch.mask, batch.weights, self.settings, denominator=share)
        loss.backward()  # type: ignore[no-untyped-call]
        entropy = (scored.entropy * batch.weights[:, None]).sum()
        return {name: float(value) for name, value in (sums | {"loss": loss.detach(), "entropy": entropy}).items()}


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
    }
