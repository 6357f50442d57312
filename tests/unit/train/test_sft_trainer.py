"""Supervised updates of a real (untrained) student."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packing_support import MODELS, adapted
from peft import PeftModel
from PIL import Image
from train_support import make_prompts

from dpe_ray.errors import TrainingError
from dpe_ray.models.adapter import in_projector
from dpe_ray.models.policy import answer_ids, load_policy, render, save_policy
from dpe_ray.train.settings import SftSettings
from dpe_ray.train.sft_trainer import SftTrainer
from dpe_ray.train.targets import completion_text
from dpe_ray.types import PolicyRef, Prompt

SETTINGS = SftSettings(lora_rank=8, lora_alpha=16, lr=1e-2, warmup=0.0, micro_batch=4)
RATIONALE = "1. how many red\n2. the circle is red"


def trainer_of(student: PolicyRef, settings: SftSettings = SETTINGS, steps: int = 20) -> SftTrainer:
    torch.manual_seed(0)
    projector = settings.projector_lr > 0
    policy = load_policy(student, trainable=settings.tuning, lora_rank=8, lora_alpha=16, projector=projector)
    return SftTrainer(policy, settings, steps)


def mixed_prompts(folder: Path) -> list[Prompt]:
    return [*make_prompts(folder / "short", 3), *make_prompts(folder / "long", 4, RATIONALE)]


def logits_of(policy: object, prompt: Prompt) -> torch.Tensor:
    with torch.no_grad():
        picture = [Image.open(prompt.sample.images[0].uri)]
        return policy.model(**render(policy.processor, prompt.text, picture)).logits  # type: ignore[attr-defined]


def test_loss_is_the_cross_entropy_of_completion_tokens_alone(student: PolicyRef, tmp_path: Path) -> None:
    prompts = mixed_prompts(tmp_path)
    policy = load_policy(student)
    losses = []
    for prompt in prompts:
        inputs = render(policy.processor, prompt.text, [Image.open(prompt.sample.images[0].uri)])
        ids = torch.tensor([answer_ids(policy, completion_text(prompt.sample))])
        full = torch.cat([inputs["input_ids"], ids], 1)
        with torch.no_grad():
            logits = policy.model(input_ids=full, pixel_values=inputs["pixel_values"]).logits[0, -ids.shape[1] - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0], reduction="none"))
    expected = float(torch.cat(losses).mean())
    for micro_batch in (1, 3, 64):
        trainer = trainer_of(student, replace(SETTINGS, micro_batch=micro_batch))
        metrics = trainer.step(prompts, prompts[0])
        assert metrics["loss"] == pytest.approx(expected, abs=1e-4)
    assert metrics["num_tokens"] == sum(trainer.sequence(prompt).length for prompt in prompts)
    assert metrics["rationale_share"] == pytest.approx(4 / 7)


def test_completion_ends_with_the_end_token_of_a_turn(student: PolicyRef, tmp_path: Path) -> None:
    policy = load_policy(student)
    ids = answer_ids(policy, "answer: red")
    assert policy.processor.tokenizer.decode(ids) == "answer: red<|end|>"
    assert ids[-1] == policy.model.generation_config.eos_token_id


def test_a_control_token_in_a_completion_is_refused(student: PolicyRef) -> None:
    with pytest.raises(ValueError, match="control token"):
        answer_ids(load_policy(student), "answer: <image>")


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_updates_lower_the_loss(student: PolicyRef, tmp_path: Path, tuning: str) -> None:
    prompts = mixed_prompts(tmp_path)
    trainer = trainer_of(student, replace(SETTINGS, tuning=tuning, lr=1e-2 if tuning == "lora" else 3e-3))
    history = [trainer.step(prompts, prompts[0]) for _ in range(20)]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["mean_token_accuracy"] > history[0]["mean_token_accuracy"]


def test_how_an_update_is_cut_does_not_change_it(student: PolicyRef, tmp_path: Path) -> None:
    prompts = mixed_prompts(tmp_path)
    one, many = trainer_of(student, replace(SETTINGS, micro_batch=64)), trainer_of(student)
    a, b = one.step(prompts, prompts[0]), many.step(prompts[::-1], prompts[0])
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("projector_lr", [0.0, 1e-3])
def test_an_adapter_saves_reloads_and_merges_to_equal_logits(
    student: PolicyRef, tmp_path: Path, projector_lr: float
) -> None:
    prompts = mixed_prompts(tmp_path)
    trainer = trainer_of(student, replace(SETTINGS, projector_lr=projector_lr))
    for _ in range(3):
        trainer.step(prompts, prompts[0])
    save_policy(trainer.policy.model, trainer.policy.processor, tmp_path / "adapter")
    trained = logits_of(trainer.policy, prompts[0])
    again = load_policy(replace(student, adapter=str(tmp_path / "adapter")))
    assert isinstance(again.model, PeftModel)
    assert torch.allclose(logits_of(again, prompts[0]), trained, atol=1e-5)
    assert not torch.allclose(logits_of(load_policy(student), prompts[0]), trained, atol=1e-2)
    merged = replace(again, model=again.model.merge_and_unload())
    assert torch.allclose(logits_of(merged, prompts[0]), trained, atol=1e-4)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_projector_learns_at_its_own_rate(student: PolicyRef, tmp_path: Path, tuning: str) -> None:
    prompts = mixed_prompts(tmp_path)
    trainer = trainer_of(student, replace(SETTINGS, tuning=tuning, lr=1e-3, projector_lr=1e-5))
    before = {name: weight.detach().clone() for name, weight in trainer.backend.weights.items()}
    trainer.step(prompts, prompts[0])
    moved = {
        name: float((weight.detach() - before[name]).abs().max()) for name, weight in trainer.backend.weights.items()
    }
    projector = [change for name, change in moved.items() if in_projector(name)]
    # the first AdamW step moves a weight by at most its learning rate
    assert 0 < max(projector) < 1.1e-5
    assert max(moved.values()) == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("model", ["llava", "qwen2.5-vl", "qwen3-vl"])
def test_every_projector_of_a_model_has_the_rate_of_projectors(model: str) -> None:
    trainer = SftTrainer(adapted(MODELS[model](), "full"), replace(SETTINGS, tuning="full", projector_lr=1e-5), 20)
    _, slow = trainer.backend.optimizer.param_groups
    named = {name for name, weight in trainer.backend.weights.items() if any(weight is own for own in slow["params"])}
    assert named == {name for name in trainer.backend.weights if "projector" in name or "merger" in name}


def test_the_projector_stays_frozen_beside_an_adapter_unless_asked(student: PolicyRef, tmp_path: Path) -> None:
    assert not any(in_projector(name) for name in trainer_of(student).backend.weights)
    opened = trainer_of(student, replace(SETTINGS, projector_lr=1e-3))
    save_policy(opened.policy.model, opened.policy.processor, tmp_path / "adapter")
    ref = replace(student, adapter=str(tmp_path / "adapter"))
    assert not any(in_projector(name) for name in trainer_of(ref).backend.weights)
    assert any(in_projector(name) for name in trainer_of(ref, replace(SETTINGS, projector_lr=1e-3)).backend.weights)


def test_learning_rate_rises_and_then_falls_along_a_cosine(student: PolicyRef, tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 1)
    trainer = trainer_of(student, replace(SETTINGS, lr=1.0e-4, warmup=0.2), steps=10)
    rates = [trainer.step(prompts, prompts[0])["learning_rate"] for _ in range(10)]
    # two updates of warm-up; six of eight parts of the way down the cosine is 0.5 (1 + cos(0.75 pi)) = 0.1464
    assert [rates[step] for step in (0, 1, 2, 6, 8)] == pytest.approx([5e-5, 1e-4, 1e-4, 5e-5, 0.1464e-4], rel=1e-3)


def test_state_goes_on_exactly(student: PolicyRef, tmp_path: Path) -> None:
    prompts = mixed_prompts(tmp_path)
    straight = trainer_of(student)
    straight.step(prompts, prompts[0])
    torch.save(straight.state(), tmp_path / "state.pt")
    resumed = trainer_of(student)
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert straight.step(prompts, prompts[0]) == resumed.step(prompts, prompts[0])
    assert all(torch.equal(weight, resumed.backend.weights[name]) for name, weight in straight.backend.weights.items())


def test_a_loss_that_is_not_finite_raises_and_leaves_the_weights(student: PolicyRef, tmp_path: Path) -> None:
    trainer = trainer_of(student)
    prompts = make_prompts(tmp_path, 2)
    with torch.no_grad():
        trainer.policy.model.get_input_embeddings().weight.fill_(float("nan"))
    before = {name: weight.detach().clone() for name, weight in trainer.backend.weights.items()}
    with pytest.raises(TrainingError, match="not finite"):
        trainer.step(prompts, prompts[0])
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.backend.weights.items())
