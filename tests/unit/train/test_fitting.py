"""What a model cannot be trained on is left out and counted before anybody is asked about it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from packing_support import MODELS
from train_support import LocalPool, make_prompts, with_picture
from transformers import LlavaProcessor

from dpe_ray.errors import PoolError, TrainingError
from dpe_ray.models.policy import load_policy
from dpe_ray.train import fitting
from dpe_ray.train.fitting import fitting_prompts, fitting_samples, sizes, without_control_tokens
from dpe_ray.train.methods import finetune
from dpe_ray.train.rendering import prompt_inputs
from dpe_ray.train.settings import ChainSettings, GrpoSettings, SftSettings
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

CONTROL, PICTURE = "a text holds a control token of the model", "the model's processor cannot take a picture"
GRPO = GrpoSettings(prompts_per_step=4, group_size=2, steps=2, max_tokens=3, kl=0.0, lora_rank=2)
SFT = SftSettings(batch_size=4, rationale_share=1.0, group_size=2, max_tokens=3, lora_rank=2)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainer and engine have a processor that refuses thin pictures, as Qwen's do."""
    take = LlavaProcessor.__call__

    def call(self: LlavaProcessor, images: Any = None, **settings: Any) -> Any:
        if any(max(image.size) > 200 * min(image.size) for image in images or ()):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return take(self, images=images, **settings)

    monkeypatch.setattr(LlavaProcessor, "__call__", call)


def asking(prompt: Prompt, question: str) -> Prompt:
    return Prompt(replace(prompt.sample, question=question), question)


def bad_ones(folder: Path) -> list[Prompt]:
    """Two with a control token, and one with a thin picture."""
    first, second, third = make_prompts(folder / "bad", 3)
    thin = with_picture(third, folder / "bad" / "thin.png", (1000, 4))
    return [asking(first, "what is an <image>"), asking(second, "<image> how many"), thin]


def mixed(folder: Path, good: int = 4) -> tuple[list[Prompt], list[Prompt]]:
    """All of a training set, the bad ones first, and the good ones alone."""
    fits = make_prompts(folder, good)
    return [*bad_ones(folder), *fits], fits


class WritingPool(LocalPool):
    """Writes down who was asked."""

    def __init__(self, policy: PolicyRef, dies_at: int = 99) -> None:
        super().__init__(policy)
        self.asked: list[str] = []
        self._left = dies_at

    def rollout(self, prompts: Sequence[Prompt], **settings: Any) -> list[RolloutGroup]:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("killed")
        self.asked += [prompt.sample.id for prompt in prompts]
        return super().rollout(prompts, **settings)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(("stage", "settings"), [("grpo", GRPO), ("sft", SFT)])
def test_bad_samples_are_counted_and_nobody_is_asked_about_them(
    stage: str, settings: GrpoSettings | SftSettings, student: PolicyRef, tmp_path: Path
) -> None:
    prompts, fits = mixed(tmp_path)
    pool = WritingPool(student)
    result = finetune(student, prompts, pool, settings, out=str(tmp_path / "out"), seed=0)
    assert result.refused == {f"{stage}: {CONTROL}": 2, f"{stage}: {PICTURE}": 1}
    assert set(pool.asked) == {prompt.sample.id for prompt in fits}


@pytest.mark.usefixtures("strict")
def test_both_methods_of_a_chain_count_their_own(student: PolicyRef, tmp_path: Path) -> None:
    prompts, _ = mixed(tmp_path)
    chain = ChainSettings(replace(SFT, rationale_share=0.0), GRPO)
    result = finetune(student, prompts, LocalPool(student), chain, out=str(tmp_path / "out"), seed=0)
    assert result.refused == {
        f"{stage}: {reason}": count for stage in ("sft", "grpo") for reason, count in ((CONTROL, 2), (PICTURE, 1))
    }


@pytest.mark.usefixtures("strict")
def test_a_killed_training_leaves_out_the_same_when_it_goes_on(student: PolicyRef, tmp_path: Path) -> None:
    prompts, fits = mixed(tmp_path)
    out, seen = str(tmp_path / "out"), []
    with pytest.raises(ConnectionError):
        finetune(student, prompts, WritingPool(student, dies_at=1), GRPO, out=out, seed=0)
    pool = WritingPool(student)
    result = finetune(student, prompts, pool, GRPO, out=out, seed=0, on_step=lambda step, *_: seen.append(step))
    assert seen == [2]
    assert sorted(pool.asked) == sorted(prompt.sample.id for prompt in fits)
    assert result.refused == {f"grpo: {CONTROL}": 2, f"grpo: {PICTURE}": 1}


def test_nothing_left_is_one_error_before_any_rollout(student: PolicyRef, tmp_path: Path) -> None:
    bad = bad_ones(tmp_path)[:2]
    for settings in (GRPO, SFT):
        pool = WritingPool(student)
        with pytest.raises(TrainingError, match=r"no prompts to train on.*2 x .*control token of the model"):
            finetune(student, bad, pool, settings, out=str(tmp_path / "out"), seed=0)
        assert pool.asked == pool.published == []


@pytest.mark.parametrize("said", ["1. an <image> of red\nanswer: red", "1. " + "red " * 80 + "\nanswer: red"])
def test_a_rationale_of_the_policy_that_cannot_be_trained_on_is_counted_too(
    said: str, student: PolicyRef, tmp_path: Path
) -> None:
    class Saying(LocalPool):
        def rollout(self, prompts: Sequence[Prompt], **settings: Any) -> list[RolloutGroup]:
            groups = super().rollout(prompts, **settings)
            texts = [said if prompt == asked else "nothing" for prompt in prompts]
            return [
                replace(
                    group,
                    rollouts=tuple(replace(r, completion=replace(r.completion, text=text)) for r in group.rollouts),
                )
                for group, text in zip(groups, texts, strict=True)
            ]

    prompts = make_prompts(tmp_path, 4)
    asked = prompts[0]
    settings = replace(SFT, max_length=80, batch_size=1)
    result = finetune(student, prompts, Saying(student), settings, out=str(tmp_path / "out"), seed=0)
    assert list(result.refused.values()) == [1]
    assert result.steps == 3


def test_of_a_set_larger_than_all_steps_only_what_they_show_is_rendered(
    student: PolicyRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []

    def counted(processor: Any, prompt: Prompt) -> Any:
        rendered.append(prompt.sample.id)
        return prompt_inputs(processor, prompt)

    monkeypatch.setattr(fitting, "prompt_inputs", counted)
    pool = WritingPool(student)
    settings = replace(GRPO, prompts_per_step=2)
    prompts = [*bad_ones(tmp_path)[:2], *make_prompts(tmp_path, 12)]
    result = finetune(student, prompts, pool, settings, out=str(tmp_path / "out"), seed=0)
    assert len(rendered) == 4
    assert sorted(rendered) == sorted(pool.asked)
    assert result.refused == {f"grpo: {CONTROL}": 2}


@dataclass
class Ranks:
    """Worlds of two threads that show each other what they have."""

    parts: list[list[Any]] = field(default_factory=lambda: [[], []])
    meeting: Barrier = field(default_factory=lambda: Barrier(2, timeout=60))

    def world(self, rank: int) -> World:
        def collect(items: list[Any]) -> list[list[Any]]:
            self.parts[rank] = items
            self.meeting.wait()
            return self.parts

        return World(rank, 2, collect=collect)


def test_ranks_share_the_work_and_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, rendered = MODELS["qwen2.5-vl"](), []

    def counted(processor: Any, prompt: Prompt) -> Any:
        rendered.append(prompt.sample.id)
        return prompt_inputs(processor, prompt)

    monkeypatch.setattr(fitting, "prompt_inputs", counted)
    prompts, fits = mixed(tmp_path)
    ranks = Ranks()
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda rank: sizes(prompts, policy, ranks.world(rank)), range(2)))
    assert sorted(rendered) == sorted(prompt.sample.id for prompt in prompts)
    assert found[0] == found[1] == sizes(prompts, policy, World())
    for kept, refused in (fitting_prompts(prompts, found[0]), fitting_samples(prompts, found[0], policy, 2048)):
        assert kept == fits
        assert list(refused.values()) == [2, 1]


def test_the_size_is_that_of_the_prompt_with_its_pictures(tmp_path: Path) -> None:
    policy = MODELS["qwen2.5-vl"]()
    (prompt,) = make_prompts(tmp_path, 1)
    bare = replace(prompt, sample=replace(prompt.sample, images=()))
    found = sizes([prompt, bare], policy, World())
    with_picture, without = found.values()
    assert isinstance(with_picture, int)
    assert with_picture == prompt_inputs(policy.processor, prompt)["input_ids"].shape[1] > int(without)


def test_what_is_wrong_with_no_sample_is_no_reason_to_leave_one_out(tmp_path: Path) -> None:
    policy = MODELS["qwen2.5-vl"]()
    good, lost = make_prompts(tmp_path, 2)
    Path(lost.sample.images[0].uri).unlink()
    with pytest.raises(PoolError, match="cannot be read"):
        sizes([good, lost], policy, World())
    policy.processor.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="chat template"):
        sizes([good], policy, World())


def test_a_control_token_is_found_without_a_picture_being_read(student: PolicyRef, tmp_path: Path) -> None:
    prompts, fits = mixed(tmp_path)
    for image in (tmp_path / "bad").iterdir():
        image.unlink()
    kept, refused = without_control_tokens(prompts, load_policy(student))
    assert kept == [prompts[2], *fits]
    assert refused == {f"grpo: {CONTROL}": 2}
