"""Rounds of supervised fine-tuning in this process."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_support import LocalPool, make_prompts

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import load_policy
from dpe_ray.train.settings import SftSettings
from dpe_ray.train.sft_loop import epoch_batch, train
from dpe_ray.types import PolicyRef, Prompt, Sample, TrainResult

SETTINGS = SftSettings(
    lora_rank=8, lora_alpha=16, lr=1e-2, epochs=3, batch_size=4, micro_batch=4, save_every=2, rationale_share=0.0
)
RATIONALE = "1. how many red\n2. the circle is red"


def run(student: PolicyRef, prompts: list[Prompt], out: Path, seed: int = 0, **settings: object) -> TrainResult:
    return train(
        student,
        prompts,
        LocalPool(student),
        replace(SETTINGS, **settings),
        out=str(out),
        seed=seed,  # type: ignore[arg-type]
    )


def weights_at(ref: PolicyRef) -> dict[str, torch.Tensor]:
    return dict(load_policy(ref).model.named_parameters())


def test_what_is_left_is_an_adapter_of_the_next_version(student: PolicyRef, tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 6, RATIONALE)
    result = run(student, prompts, tmp_path / "out", epochs=6)
    assert (result.steps, len(result.metrics), result.refused) == (9, 9, {})
    assert result.policy == PolicyRef(student.base, str(tmp_path / "out"), 1)
    assert result.metrics[-1]["loss"] < 0.8 * result.metrics[0]["loss"]
    assert (tmp_path / "out" / "adapter_config.json").exists()
    load_policy(result.policy)


def test_metrics_have_trls_names_and_are_finite(student: PolicyRef, tmp_path: Path) -> None:
    metrics = run(student, make_prompts(tmp_path, 4), tmp_path / "out", epochs=2).metrics
    assert set(metrics[0]) == {
        "loss",
        "mean_token_accuracy",
        "entropy",
        "learning_rate",
        "grad_norm",
        "num_tokens",
        "rationale_share",
        "steps_left",
        "update_tflop",
        "peak_memory_gb",
        "step_time_s",
        "tokens_per_s",
    }
    assert all(math.isfinite(value) for step in metrics for value in step.values())
    assert metrics[1]["num_tokens"] == 2 * metrics[0]["num_tokens"]


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_from_its_last_checkpoint_and_ends_the_same(student: PolicyRef, tmp_path: Path) -> None:
    prompts, seen = make_prompts(tmp_path, 7, RATIONALE), []

    def die(step, *_) -> None:
        if step == 4:
            raise Killed

    out = str(tmp_path / "killed")
    with pytest.raises(Killed):
        train(student, prompts, LocalPool(student), SETTINGS, out=out, seed=0, on_step=die)
    resumed = train(
        student, prompts, LocalPool(student), SETTINGS, out=out, seed=0, on_step=lambda step, *_: seen.append(step)
    )
    straight = run(student, prompts, tmp_path / "straight")
    assert seen == [5, 6]
    for name in ("loss", "learning_rate", "num_tokens"):
        assert [m[name] for m in resumed.metrics] == pytest.approx([m[name] for m in straight.metrics], abs=1e-6)
    ours, theirs = weights_at(resumed.policy), weights_at(straight.policy)
    assert all(torch.allclose(weight, theirs[name], atol=1e-6) for name, weight in ours.items())


def test_checkpoints_of_another_run_are_not_taken_up(student: PolicyRef, tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 7)

    def die(step, *_) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        train(student, prompts, LocalPool(student), SETTINGS, out=str(tmp_path / "out"), seed=0, on_step=die)
    assert run(student, prompts[:6], tmp_path / "out", epochs=1).steps == 2


def test_a_second_round_goes_on_with_the_same_adapter(student: PolicyRef, tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 4, RATIONALE)
    first = run(student, prompts, tmp_path / "1", epochs=6)
    second = run(first.policy, prompts, tmp_path / "2", epochs=1, lr=1e-4)
    assert second.metrics[0]["loss"] < 1.05 * first.metrics[-1]["loss"]
    assert second.policy == PolicyRef(student.base, str(tmp_path / "2"), 2)


def test_full_tuning_leaves_a_whole_model(student: PolicyRef, tmp_path: Path) -> None:
    result = run(student, make_prompts(tmp_path, 4), tmp_path / "out", tuning="full", lr=1e-3)
    assert result.policy == PolicyRef(str(tmp_path / "out"), version=1)
    assert (tmp_path / "out" / "config.json").exists()
    load_policy(result.policy)


def test_an_epoch_shows_every_prompt_once_and_the_last_batch_is_smaller(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 7)
    settings = replace(SETTINGS, epochs=2, batch_size=4)
    shown = [prompt.sample.id for step in range(4) for prompt in epoch_batch(prompts, step, settings, seed=0)]
    ids = sorted(prompt.sample.id for prompt in prompts)
    assert sorted(shown[:7]) == sorted(shown[7:]) == ids
    assert len(epoch_batch(prompts, 3, settings, seed=0)) == 2


def test_samples_that_do_not_fit_the_model_are_counted_and_left_out(student: PolicyRef, tmp_path: Path) -> None:
    fits = make_prompts(tmp_path, 3)
    long = replace(fits[0], sample=replace(fits[0].sample, rationale="1. " + "red " * 80))
    control: Sample = replace(fits[0].sample, rationale="1. an <image> of red")
    prompts = [*fits, long, replace(fits[0], sample=control)]
    result = run(student, prompts, tmp_path / "out", epochs=1, batch_size=1, max_length=80)
    assert result.refused == {"sft: longer than max_length": 1, "sft: a text holds a control token of the model": 1}
    assert result.steps == 3


def test_nothing_that_fits_is_one_error_before_any_update(student: PolicyRef, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="max_length"):
        run(student, make_prompts(tmp_path, 2), tmp_path / "out", max_length=5)
    with pytest.raises(TrainingError, match="no prompts"):
        run(student, [], tmp_path / "out")
