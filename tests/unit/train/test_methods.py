"""One call for every method."""

from dataclasses import replace
from pathlib import Path

import pytest
from train_support import LocalPool, make_prompts

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import load_policy
from dpe_ray.train import loop
from dpe_ray.train.ending import training_key
from dpe_ray.train.methods import finetune
from dpe_ray.train.settings import ChainSettings, GrpoSettings, Settings, SftSettings
from dpe_ray.types import PolicyRef

SFT = SftSettings(lora_rank=8, lora_alpha=16, lr=1e-2, batch_size=4, rationale_share=0.0)
GRPO = GrpoSettings(
    lora_rank=8, lora_alpha=16, lr=1e-2, prompts_per_step=4, group_size=4, steps=2, max_tokens=4,
    drop_equal_groups=False, kl=0.05,
)  # fmt: skip
CHAIN = ChainSettings(SFT, GRPO)


def test_chain_runs_sft_then_grpo_whose_reference_is_the_policy_after_sft(student: PolicyRef, tmp_path: Path) -> None:
    prompts, pool, steps = make_prompts(tmp_path, 8), LocalPool(student), []
    out = tmp_path / "out"
    result = finetune(student, prompts, pool, CHAIN, out=str(out), seed=0, on_step=lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3, 4]
    assert ["reward" in step for step in result.metrics] == [False, False, True, True]
    assert result.metrics[0]["grad_norm"] > 0
    assert result.metrics[2]["kl"] == pytest.approx(0, abs=1e-9)
    assert result.policy == PolicyRef(student.base, str(out), 1)
    assert pool.published[0].adapter == str(out / "sft")
    assert len({policy.version for policy in pool.published}) == len(pool.published)
    assert not (out / "sft").exists()
    load_policy(result.policy)


def test_a_chain_that_died_in_grpo_does_not_repeat_sft(student: PolicyRef, tmp_path: Path) -> None:
    prompts, seen = make_prompts(tmp_path, 8), []

    class Dying(LocalPool):
        def rollout(self, *args: object, **settings: object) -> list:  # type: ignore[type-arg]
            raise ConnectionError("killed")

    out = str(tmp_path / "out")
    with pytest.raises(ConnectionError):
        finetune(student, prompts, Dying(student), CHAIN, out=out, seed=0)
    result = finetune(
        student, prompts, LocalPool(student), CHAIN, out=out, seed=0, on_step=lambda step, *_: seen.append(step)
    )
    assert seen == [3, 4]
    assert len(result.metrics) == 4


def test_refused_samples_are_counted_by_method(student: PolicyRef, tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 6)
    caption = replace(prompts[0].sample.answer, value="a red circle is left of the blue square")
    prompts[0] = replace(prompts[0], sample=replace(prompts[0].sample, answer=caption))
    result = finetune(student, prompts, LocalPool(student), CHAIN, out=str(tmp_path / "out"), seed=0)
    assert result.refused == {"grpo: an answer of more than 6 words cannot be checked by rule": 1}


def test_samples_that_one_method_of_a_chain_cannot_use_stop_it_before_the_other_starts(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 2)
    caption = replace(prompts[0].sample.answer, value="a red circle is left of the blue square")
    prompts = [replace(prompt, sample=replace(prompt.sample, answer=caption)) for prompt in prompts]
    nowhere = PolicyRef("/nowhere")
    with pytest.raises(TrainingError, match="none of 2"):
        finetune(nowhere, prompts, None, CHAIN, out=str(tmp_path / "out"), seed=0)  # type: ignore[arg-type]


def test_grpo_through_the_one_call_is_the_grpo_loop(student: PolicyRef, tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 4)
    ours = finetune(student, prompts, LocalPool(student), GRPO, out=str(tmp_path / "a"), seed=0)
    theirs = loop.train(student, prompts, LocalPool(student), GRPO, out=str(tmp_path / "b"), seed=0)
    for name in ("reward", "loss", "grad_norm"):
        assert [m[name] for m in ours.metrics] == pytest.approx([m[name] for m in theirs.metrics], abs=1e-6)


@pytest.mark.parametrize("settings", [SFT, GRPO, CHAIN])
def test_what_was_trained_is_not_trained_again_and_leaves_no_steps(
    student: PolicyRef, tmp_path: Path, settings: Settings
) -> None:
    prompts, out, seen = make_prompts(tmp_path, 6), tmp_path / "out", []
    first = finetune(student, prompts, LocalPool(student), settings, out=str(out), seed=0)
    (out / "steps" / "step-00001").mkdir(parents=True)  # as a kill while they are removed leaves them
    again = finetune(
        student, prompts, LocalPool(student), settings, out=str(out), seed=0, on_step=lambda step, *_: seen.append(step)
    )
    assert (again, seen) == (first, [])
    assert not (out / "steps").exists()
    other = finetune(
        student, prompts, LocalPool(student), settings, out=str(out), seed=1, on_step=lambda step, *_: seen.append(step)
    )
    assert seen == list(range(1, other.steps + 1)), "another seed is another training"


def test_ranks_on_different_devices_take_part_in_the_same_training(tmp_path: Path) -> None:
    prompts, policy = make_prompts(tmp_path, 2), PolicyRef("student")
    for settings in (SFT, GRPO, CHAIN):
        keys = {training_key(policy, prompts, settings.on(f"cuda:{rank}"), 0) for rank in range(3)}
        assert keys == {training_key(policy, prompts, settings, 0)}
    assert len({training_key(policy, prompts, SFT, 1), training_key(policy, prompts[:1], SFT, 0), *keys}) == 3


def test_an_end_is_forgotten_when_another_training_begins_in_its_place(student: PolicyRef, tmp_path: Path) -> None:
    prompts, out = make_prompts(tmp_path, 6), str(tmp_path / "out")
    finetune(student, prompts, LocalPool(student), SFT, out=out, seed=0)

    class Dying(LocalPool):
        def rollout(self, *args: object, **settings: object) -> list:  # type: ignore[type-arg]
            raise ConnectionError("killed")

    with pytest.raises(ConnectionError):
        finetune(student, prompts, Dying(student), GRPO, out=out, seed=0)
    seen: list[int] = []
    finetune(student, prompts, LocalPool(student), SFT, out=out, seed=0, on_step=lambda step, *_: seen.append(step))
    assert seen, "the weights at OUT may be the other training's"
