"""Updates of a real (untrained) student."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from train_support import LocalPool, make_groups, make_prompt

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import load_policy, render
from dpe_ray.train.batching import MicroBatch, collate, training_sequences
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef, RolloutGroup

SETTINGS = GrpoSettings(tuning="full", lr=1e-3, kl=0.01, micro_batch=5, updates_per_step=1)


def trainer_of(student: PolicyRef, settings: GrpoSettings = SETTINGS) -> GrpoTrainer:
    policy = load_policy(student, trainable=settings.tuning)
    torch.manual_seed(0)  # the adapter's first matrix is drawn
    return GrpoTrainer(policy, settings)


def weights_of(trainer: GrpoTrainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.backend.weights.items()}


def batch_of(groups: list[RolloutGroup]) -> MicroBatch:
    return collate([sequence for group in groups for sequence in training_sequences(group)], pad_id=0)


def test_logprobs_equal_those_of_each_sequence_alone(student: PolicyRef, tmp_path: Path) -> None:
    policy = load_policy(student)
    groups = make_groups(student, tmp_path)
    batch = batch_of(groups)
    scored = CompletionLogprobs(policy, temperature=0.7)(batch)
    row = 0
    for group in groups:
        picture = [Image.open(group.prompt.sample.images[0].uri)]
        inputs = render(policy.processor, group.prompt.text, picture)
        for rollout in group.rollouts:
            ids = torch.tensor([rollout.completion.token_ids])
            logits = policy.model(
                input_ids=torch.cat([inputs["input_ids"], ids], 1), pixel_values=inputs["pixel_values"]
            ).logits[0, -ids.shape[1] - 1 : -1]
            expected = (logits / 0.7).log_softmax(-1).gather(1, ids.T)[:, 0]
            assert torch.allclose(scored.logprobs[row, : ids.shape[1]], expected, atol=1e-4)
            assert not scored.logprobs[row, ids.shape[1] :].any()
            row += 1


def test_trainer_and_engine_agree_on_every_token_even_on_a_sampled_placeholder(
    student: PolicyRef, tmp_path: Path
) -> None:
    policy = load_policy(student)
    prompts = [make_prompt(tmp_path, index) for index in range(8)]
    groups = LocalPool(student).rollout(prompts, group_size=8, temperature=1.0, top_p=1.0, max_tokens=25, seed=1)
    batch = batch_of(groups)
    assert (batch.completion_ids == policy.model.config.image_token_id).any()
    gap = CompletionLogprobs(policy, temperature=1.0)(batch).logprobs - batch.rollout_logprobs
    assert float(gap.abs().max()) < 1e-4


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_reference_stays_while_weights_change(student: PolicyRef, tmp_path: Path, tuning: str) -> None:
    trainer = trainer_of(student, replace(SETTINGS, tuning=tuning))
    groups = make_groups(student, tmp_path)
    before, started = trainer.reference.hash(), weights_of(trainer)
    for _ in range(2):
        trainer.step(groups)
    assert trainer.reference.hash() == before
    assert any(not torch.equal(weight, started[name]) for name, weight in trainer.backend.weights.items())


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_kl_is_zero_at_the_first_step_and_then_not(student: PolicyRef, tmp_path: Path, tuning: str) -> None:
    trainer = trainer_of(student, replace(SETTINGS, tuning=tuning))
    groups = make_groups(student, tmp_path)
    assert trainer.step(groups)["kl"] == pytest.approx(0.0, abs=1e-9)
    trainer.step(groups)
    assert trainer.step(groups)["kl"] > 1e-6


def test_reference_of_a_trained_adapter_is_the_adapter_not_the_base(student: PolicyRef, tmp_path: Path) -> None:
    settings = replace(SETTINGS, tuning="lora")
    first = trainer_of(student, settings)
    groups = make_groups(student, tmp_path)
    for _ in range(3):
        first.step(groups)
    first.policy.model.save_pretrained(tmp_path / "adapter")
    second = trainer_of(replace(student, adapter=str(tmp_path / "adapter")), settings)
    assert second.step(groups)["kl"] == pytest.approx(0.0, abs=1e-9)
    assert first.step(groups)["kl"] > 1e-6


def test_gradient_comes_from_completion_tokens_only(student: PolicyRef, tmp_path: Path) -> None:
    policy = load_policy(student, trainable="full")
    batch = batch_of(make_groups(student, tmp_path))
    module = CompletionLogprobs(policy, temperature=1.0)
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    policy.model.lm_head.register_forward_hook(keep)
    module(batch).logprobs.sum().backward()
    (logits,) = kept
    assert logits.grad is not None
    touched = logits.grad.abs().sum(-1) > 0
    assert len(logits) == batch.mask.sum()
    assert touched.all()


def test_dropped_groups_are_counted_and_change_nothing(student: PolicyRef, tmp_path: Path) -> None:
    groups = make_groups(student, tmp_path)
    flat = replace(groups[1], rollouts=tuple(replace(rollout, reward=1.0) for rollout in groups[1].rollouts))
    with_flat, without = trainer_of(student), trainer_of(student)
    metrics = with_flat.step([groups[0], flat, groups[2]])
    without.step([groups[0], groups[2]])
    assert metrics["groups_dropped"] == 1
    assert all(
        torch.allclose(weight, without.backend.weights[name], atol=1e-6)
        for name, weight in with_flat.backend.weights.items()
    )


def test_a_step_without_any_signal_updates_nothing(student: PolicyRef, tmp_path: Path) -> None:
    trainer = trainer_of(student)
    groups = [
        replace(group, rollouts=tuple(replace(rollout, reward=0.1) for rollout in group.rollouts))
        for group in make_groups(student, tmp_path)
    ]
    before = weights_of(trainer)
    metrics = trainer.step(groups)
    assert (metrics["groups_dropped"], metrics["loss"]) == (3, 0)
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.backend.weights.items())


def test_micro_batches_do_not_change_the_update(student: PolicyRef, tmp_path: Path) -> None:
    groups = make_groups(student, tmp_path)
    for loss_mean in ("sequence", "token"):
        small = trainer_of(student, replace(SETTINGS, micro_batch=5, loss_mean=loss_mean))
        large = trainer_of(student, replace(SETTINGS, micro_batch=64, loss_mean=loss_mean))
        a, b = small.step(groups), large.step(groups)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)


def test_second_update_of_a_step_sees_a_ratio_away_from_one(student: PolicyRef, tmp_path: Path) -> None:
    groups = make_groups(student, tmp_path, count=2)
    same = [groups[0], groups[0]]
    one = trainer_of(student, replace(SETTINGS, updates_per_step=1, lr=0.02)).step(same)
    two = trainer_of(student, replace(SETTINGS, updates_per_step=2, lr=0.02)).step(same)
    assert one["clip_ratio"] == 0
    assert two["clip_ratio"] > 0


def test_state_goes_on_exactly(student: PolicyRef, tmp_path: Path) -> None:
    groups = make_groups(student, tmp_path)
    straight = trainer_of(student)
    straight.step(groups)
    torch.save(straight.state(), tmp_path / "state.pt")
    resumed = trainer_of(student)
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert straight.step(groups) == resumed.step(groups)
    assert all(torch.equal(weight, resumed.backend.weights[name]) for name, weight in straight.backend.weights.items())


def test_a_loss_that_is_not_finite_raises_and_leaves_the_weights(student: PolicyRef, tmp_path: Path) -> None:
    trainer = trainer_of(student)
    groups = make_groups(student, tmp_path)
    first, *others = groups[0].rollouts
    unheard = replace(first.completion, logprobs=(float("nan"),) * len(first.completion.token_ids))
    broken = replace(groups[0], rollouts=(replace(first, completion=unheard), *others))
    before = weights_of(trainer)
    with pytest.raises(TrainingError, match="not finite"):
        trainer.step([broken])
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.backend.weights.items())


def test_pictures_of_prompts_are_held_by_the_cpu_and_only_those_of_a_micro_batch_are_with_the_model(
    student: PolicyRef, tmp_path: Path
) -> None:
    """The device without memory, `meta`, stands for a GPU; a model there computes shapes alone."""
    policy = load_policy(student)
    batch = batch_of(make_groups(student, tmp_path))
    policy.model.to("meta")
    module = CompletionLogprobs(policy, temperature=1.0, packing=False)
    for prompt in batch.prompts:
        assert {value.device.type for value in module.prompts.inputs(prompt).values()} == {"cpu"}
    shown: list[torch.Tensor] = []

    def look(pixel_values: torch.Tensor) -> None:
        shown.append(pixel_values)
        raise InterruptedError

    policy.model.get_image_features = look
    placed = {name: value.to("meta") for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    with pytest.raises(InterruptedError):
        module(replace(batch, **placed))
    assert [(pixels.device.type, len(pixels)) for pixels in shown] == [("meta", 3)]


@pytest.mark.parametrize("shared_prefix", ["auto", "off"])
@pytest.mark.parametrize("change", ["last", "one more before", "one less"])
def test_a_prompt_that_the_engine_tokenized_differently_is_refused(
    student: PolicyRef, tmp_path: Path, change: str, shared_prefix: str
) -> None:
    group, other, *_ = make_groups(student, tmp_path)
    ids = group.prompt_ids
    theirs = {"last": (*ids[:-1], 7), "one more before": (3, *ids), "one less": ids[1:]}[change]
    trainer = trainer_of(student, replace(SETTINGS, shared_prefix=shared_prefix, micro_batch=8))
    with pytest.raises(TrainingError, match="tokenize"):
        trainer.step([replace(group, prompt_ids=theirs), other])


def test_a_frozen_policy_is_refused(student: PolicyRef) -> None:
    with pytest.raises(TrainingError, match="trainable"):
        GrpoTrainer(load_policy(student), SETTINGS)


def test_truncated_completions_give_no_gradient_and_count_as_sequences(student: PolicyRef, tmp_path: Path) -> None:
    """As in TRL: a masked completion's term is 0, and the mean over sequences still counts it."""
    groups = make_groups(student, tmp_path, count=1)
    (group,) = groups
    first, *others = group.rollouts
    masking = replace(SETTINGS, mask_truncated_completions=True, kl=0.0, rollout_ratio="off")
    cut = replace(group, rollouts=(replace(first, completion=replace(first.completion, finished=False)), *others))
    trainer = trainer_of(student, masking)
    metrics = trainer.step([cut])
    advantages = [sequence.advantage for sequence in training_sequences(group)]
    assert metrics["loss"] == pytest.approx(-sum(advantages[1:]) / 4, rel=1e-5)
    nothing = replace(
        group, rollouts=tuple(replace(r, completion=replace(r.completion, finished=False)) for r in group.rollouts)
    )
    before = weights_of(trainer)
    assert trainer.step([nothing])["loss"] == 0.0
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.backend.weights.items())


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_optimiser_holds_a_moment_of_every_trained_weight(student: PolicyRef, tmp_path: Path, tuning: str) -> None:
    trainer = trainer_of(student, replace(SETTINGS, tuning=tuning))
    heard: set[str] = set()
    weights = trainer.backend.weights
    trainer.backend.optimizer.register_step_pre_hook(
        lambda *_: heard.update(name for name, weight in weights.items() if weight.grad is not None)
    )
    trainer.step(make_groups(student, tmp_path))
    moments = trainer.state()["moments"]
    assert moments.keys() == heard != set()
    assert sum(float(moment["exp_avg"].abs().sum()) for moment in moments.values()) > 0
