"""Advantages, loss and gradients of every variant equal TRL's own code and a plain float64 loop, on one small LLaVA.

The update that is compared is the second one of a rollout batch: the weights have moved since the rollouts (new / old),
the reference is the policy at the start, and the engine's log-probabilities are off by some noise (old / rollout).
`--log-cli-level=INFO` prints the table.
"""

import copy
import logging
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from plain_objective import plain_advantages, plain_loss
from torch import Tensor
from train_support import make_groups
from trl_support import GivenRollouts, Gradients, trl_inputs, trl_loss, trl_trainer

from dpe_ray.models.policy import LoadedPolicy, load_policy, render
from dpe_ray.train.batching import training_sequences
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef, RolloutGroup

log = logging.getLogger(__name__)

MAX_TOKENS = 9
MOVE = 0.9
"""What the first update multiplies all weights with."""
COMMON = GrpoSettings(
    tuning="full", updates_per_step=2, lr=1e-3, weight_decay=100.0, max_grad_norm=1e9,
    drop_equal_groups=False, std_eps=1e-4, kl=0.0, clip_high=0.2,
    clip_dual=None, shared_prefix="off", rollout_cap=1.5, max_tokens=MAX_TOKENS,
)  # fmt: skip
TRL_COMMON: dict[str, Any] = {
    "loss_type": "grpo", "beta": 0.0, "use_bias_correction_kl": False,
    "epsilon": 0.2, "temperature": 1.0, "max_completion_length": MAX_TOKENS,
    "vllm_importance_sampling_mode": "token_truncate", "vllm_importance_sampling_clip_max": 1.5,
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """The same objective in our words and in TRL's; both add to what is common."""

    name: str
    ours: dict[str, Any] = field(default_factory=dict)
    trl: dict[str, Any] = field(default_factory=dict)


UNBIASED, TRL_UNBIASED = {"kl": 0.04, "kl_importance": True}, {"beta": 0.04, "use_bias_correction_kl": True}
GSPO = {"importance_sampling_level": "sequence"}
VARIANTS = [
    Variant("GRPO"),
    Variant(
        "GRPO as DPE has it",
        {"kl": 0.01, "clip_high": 0.3, "clip_dual": 3.0},
        {"beta": 0.01, "epsilon_high": 0.3, "delta": 3.0},
    ),
    Variant("GRPO, KL", {"kl": 0.04}, {"beta": 0.04}),
    Variant("GRPO, KL weighted by importance", UNBIASED, TRL_UNBIASED),
    Variant("GRPO, higher upper clip", {"clip_high": 0.28}, {"epsilon_high": 0.28}),
    Variant("GRPO, dual clip", {"clip_dual": 1.25}, {"delta": 1.25}),
    Variant("GRPO, engine ratio masked", {"rollout_ratio": "mask"}, {"vllm_importance_sampling_mode": "token_mask"}),
    Variant("GRPO, engine ratio off", {"rollout_ratio": "off"}, {"vllm_importance_sampling_correction": False}),
    Variant("token mean (BNPO)", {"loss_mean": "token", "kl": 0.04}, {"loss_type": "bnpo", "beta": 0.04}),
    Variant("DAPO", {"loss_mean": "token", "clip_high": 0.28}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    Variant(
        "DAPO, truncated completions masked",
        {"loss_mean": "token", "clip_high": 0.28, "mask_truncated_completions": True},
        {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True},
    ),
    Variant(
        "GRPO, truncated completions masked",
        {"mask_truncated_completions": True, "kl": 0.04},
        {"mask_truncated_completions": True, "beta": 0.04},
    ),
    Variant(
        "Dr. GRPO",
        {"loss_mean": "constant", "scale_rewards": "none", "kl": 0.04},
        {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.04},
    ),
    Variant("GSPO", GSPO | {"clip_low": 3e-4, "clip_high": 4e-4}, GSPO | {"epsilon": 3e-4, "epsilon_high": 4e-4}),
    Variant("GSPO, wide clip, KL", GSPO | UNBIASED, GSPO | TRL_UNBIASED),
    Variant("GSPO, token mean", GSPO | {"loss_mean": "token"}, GSPO | {"loss_type": "dapo"}),
    Variant("GRPO, prompts shared", {"shared_prefix": "auto", "kl": 0.04}, {"beta": 0.04}),
]  # fmt: skip


@dataclass(frozen=True)
class PlainPolicy:
    """The student in float64, every completion in a forward pass of its own."""

    weights: Gradients
    old: Tensor
    """[B, T] under the start's weights."""
    new: Tensor
    """[B, T] under the moved weights, with a gradient."""


@pytest.fixture(scope="module")
def policy(student: PolicyRef) -> LoadedPolicy:
    """Never trained itself: every variant has copies."""
    return load_policy(student, trainable="full")


@pytest.fixture(scope="module")
def groups(policy: LoadedPolicy, student: PolicyRef, tmp_path_factory: pytest.TempPathFactory) -> list[RolloutGroup]:
    """Two groups of four. Some completions end and some are cut; the engine is off by up to half a nat.

    It is off by more for bad completions, so that good and bad terms do not cancel and relative errors mean something.
    """
    rng = random.Random(0)
    end = policy.processor.tokenizer.eos_token_id
    made = []
    for group in make_groups(student, tmp_path_factory.mktemp("pictures"), count=2):
        rollouts = []
        for index, rollout in enumerate(group.rollouts):
            finished = index % 3 != 1
            ids = [*rollout.completion.token_ids, *([end] if finished else [])]
            scored = completion_logprobs(policy.model, policy.processor, group, ids)
            heard = tuple(
                float(value) + rng.uniform(-0.5, 0.0) + 0.5 * (rollout.reward < 0.5) for value in scored.detach()
            )
            completion = replace(rollout.completion, token_ids=tuple(ids), logprobs=heard, finished=finished)
            rollouts.append(replace(rollout, completion=completion))
        made.append(replace(group, rollouts=tuple(rollouts)))
    return made


@pytest.fixture(scope="module")
def plain_policy(policy: LoadedPolicy, groups: list[RolloutGroup]) -> PlainPolicy:
    model = copy.deepcopy(policy.model).double()

    def scored() -> Tensor:
        rows = [
            completion_logprobs(model, policy.processor, group, list(rollout.completion.token_ids))
            for group in groups
            for rollout in group.rollouts
        ]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    old = scored().detach()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(MOVE)
    return PlainPolicy(dict(model.named_parameters()), old, scored())


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_variant_equals_trl_and_a_plain_loop(
    variant: Variant, policy: LoadedPolicy, groups: list[RolloutGroup], plain_policy: PlainPolicy, tmp_path: Path
) -> None:
    settings = replace(COMMON, **variant.ours)
    trainer = GrpoTrainer(copy.deepcopy(policy), settings)
    heard = gradients_of_last_update(trainer)
    metrics = trainer.step([*map(without_signal, groups), *groups])
    loss = metrics["loss"] * 2  # the first update's is 0
    gradients = {name.removeprefix("model."): gradient for name, gradient in heard.items()}

    given = GivenRollouts(groups)
    trl = trl_trainer(copy.deepcopy(policy), given, tmp_path, **{**TRL_COMMON, **variant.trl})
    inputs = trl_inputs(trl, given)
    trl_value, trl_gradients = trl_loss(trl, inputs, MOVE)
    plain_value, plain_gradients = plain_update(plain_policy, groups, settings)

    check_advantages(groups, settings, inputs["advantages"].tolist())
    errors = {
        "loss, TRL": abs(loss - trl_value) / abs(trl_value),
        "loss, float64": abs(loss - plain_value) / abs(plain_value),
        "gradients, TRL": distance(gradients, trl_gradients),
        "gradients, float64": distance(gradients, plain_gradients),
    }
    said = ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
    log.info("%-34s loss %+.5f, clipped %.2f: %s", variant.name, loss, 2 * metrics["clip_ratio"], said)
    assert all(error <= 1e-5 for error in errors.values()), errors


def gradients_of_last_update(trainer: GrpoTrainer) -> Gradients:
    """Filled at every update, before the optimiser applies them."""
    kept: Gradients = {}

    def keep(*_: object) -> None:
        kept.update({n: w.grad.clone() for n, w in trainer.backend.weights.items() if w.grad is not None})

    trainer.backend.optimizer.register_step_pre_hook(keep)
    return kept


def without_signal(group: RolloutGroup) -> RolloutGroup:
    """The group with equal rewards: an update that weight decay alone moves the weights in."""
    return replace(group, rollouts=tuple(replace(rollout, reward=1.0) for rollout in group.rollouts))


def check_advantages(groups: list[RolloutGroup], settings: GrpoSettings, trl: list[float]) -> None:
    everyone = replace(settings, mask_truncated_completions=False)
    ours = [sequence.advantage for group in groups for sequence in training_sequences(group, everyone)]
    plain = [a for group in groups for a in plain_advantages([r.reward for r in group.rollouts], settings)]
    assert ours == pytest.approx(plain, rel=1e-12)
    assert ours == pytest.approx(trl, rel=1e-5)


def plain_update(policy: PlainPolicy, groups: list[RolloutGroup], settings: GrpoSettings) -> tuple[float, Gradients]:
    """Loss and gradients in float64."""
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    lengths = [0 if settings.mask_truncated_completions and not c.finished else len(c.token_ids) for c in completions]
    advantages = [a for g in groups for a in plain_advantages([r.reward for r in g.rollouts], settings)]
    heard = [torch.tensor(completion.logprobs, dtype=torch.float64) for completion in completions]
    rollout = torch.nn.utils.rnn.pad_sequence(heard, batch_first=True)
    loss = plain_loss(policy.new, policy.old, rollout, policy.old, advantages, lengths, settings)
    found = torch.autograd.grad(loss, [*policy.weights.values()], retain_graph=True, allow_unused=True)
    named = {name: value for name, value in zip(policy.weights, found, strict=True) if value is not None}
    return float(loss.detach()), named


def distance(a: Gradients, b: Gradients) -> float:
    """Norm of the difference over all weights, relative to the norm of `b`."""
    assert a.keys() == b.keys()
    difference = sum(float((a[name].double() - b[name].double()).square().sum()) for name in a)
    return float((difference / sum(float(weight.double().square().sum()) for weight in b.values())) ** 0.5)


def completion_logprobs(model: Any, processor: Any, group: RolloutGroup, ids: list[int]) -> Tensor:
    """[T] of one completion alone."""
    pictures = [Image.open(image.uri) for image in group.prompt.sample.images]
    inputs = render(processor, group.prompt.text, pictures)
    completion = torch.tensor([ids])
    pixels = inputs["pixel_values"].to(model.dtype)
    logits = model(input_ids=torch.cat([inputs["input_ids"], completion], 1), pixel_values=pixels).logits
    return logits[0, -len(ids) - 1 : -1].log_softmax(-1).gather(1, completion.T)[:, 0]
