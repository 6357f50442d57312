"""The loop with a real engine in this process."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from train_support import LocalPool, make_prompt

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import load_policy
from dpe_ray.train.loop import chosen
from dpe_ray.train.loop import train as run
from dpe_ray.train.reward import PARTS as SHIPPED
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.types import Completion, PolicyRef, Prompt, RolloutGroup, Sample

SETTINGS = GrpoSettings(
    tuning="full", lr=3e-3, kl=0.0, prompts_per_step=4, group_size=8, steps=6, max_tokens=4, reward={"letters": 1.0}
)


def share_of_letters(sample: Sample, completion: Completion) -> float:
    """A reward that a handful of updates can learn: write letters."""
    text = completion.text
    return sum(character.isascii() and character.isalpha() for character in text) / max(1, len(text))


train = partial(run, parts={**SHIPPED, "letters": share_of_letters})


def prompts_in(folder: Path, count: int = 6) -> list[Prompt]:
    return [make_prompt(folder, index) for index in range(count)]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_student_learns_a_trivial_reward(student: PolicyRef, tmp_path: Path, tuning: str) -> None:
    settings = replace(SETTINGS, tuning=tuning, lr=3e-3 if tuning == "full" else 1e-2, steps=12)
    pool = LocalPool(student)
    result = train(student, prompts_in(tmp_path), pool, settings, out=str(tmp_path / "out"), seed=1)
    history = [metrics["reward"] for metrics in result.metrics]
    assert len(history) == 12
    assert sum(history[-3:]) / 3 > sum(history[:3]) / 3 + 0.1, history
    assert max(metrics["logprob_gap"] for metrics in result.metrics) < 1e-4
    assert pool.published[0] == student
    assert pool.published[-1] == result.policy
    assert len({policy.version for policy in pool.published}) == 14


def test_what_is_left_is_a_plain_directory_that_loads(student: PolicyRef, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for tuning in ("lora", "full"):
        settings = replace(SETTINGS, tuning=tuning, steps=1)
        result = train(student, prompts_in(tmp_path), LocalPool(student), settings, out=str(out / tuning), seed=0)
        assert result.policy.version == 1
        load_policy(result.policy)
    assert (out / "lora" / "adapter_config.json").exists()
    assert (out / "full" / "config.json").exists()


def test_metrics_have_their_names_and_are_finite(student: PolicyRef, tmp_path: Path) -> None:
    seen: list[int] = []
    settings = replace(SETTINGS, steps=2, kl=0.01, reward={"accuracy": 0.9, "format": 0.1}, drop_equal_groups=False)
    result = train(
        student,
        prompts_in(tmp_path),
        LocalPool(student),
        settings,
        out=str(tmp_path / "out"),
        seed=0,
        on_step=lambda step, *_: seen.append(step),
    )
    assert seen == [1, 2]
    assert set(result.metrics[0]) == {
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "reward/accuracy",
        "reward/format",
        "groups_dropped",
        "completions/mean_length",
        "completions/clipped_ratio",
        "completions/max_length",
        "completions/mean_terminated_length",
        "reward_errors",
        "loss",
        "kl",
        "grad_norm",
        "entropy",
        "clip_ratio",
        "clip_ratio/low_mean",
        "clip_ratio/high_mean",
        "clip_ratio_dual",
        "logprob_gap",
        "learning_rate",
        "steps_left",
        "update_tflop",
        "peak_memory_gb",
        "rollout_ratio_truncated",
        "tokens_per_s",
        "step_time_s",
        "rollout_s",
        "update_s",
        "publish_s",
    }
    assert all(math.isfinite(value) for metrics in result.metrics for value in metrics.values())
    assert result.metrics[0]["kl"] == pytest.approx(0, abs=1e-9)


class DyingPool(LocalPool):
    """Fails at a given rollout."""

    def __init__(self, policy: PolicyRef, dies_at: int) -> None:
        super().__init__(policy)
        self.left = dies_at

    def rollout(self, prompts: Sequence[Prompt], **settings: object) -> list[RolloutGroup]:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("killed")
        return super().rollout(prompts, **settings)  # type: ignore[arg-type]


def test_a_killed_run_goes_on_from_its_last_step_and_ends_the_same(student: PolicyRef, tmp_path: Path) -> None:
    prompts, out = prompts_in(tmp_path), str(tmp_path / "killed")
    with pytest.raises(ConnectionError):
        train(student, prompts, DyingPool(student, 3), SETTINGS, out=out, seed=0)
    pool = LocalPool(student)
    resumed = train(student, prompts, pool, SETTINGS, out=out, seed=0)
    straight = train(student, prompts, LocalPool(student), SETTINGS, out=str(tmp_path / "straight"), seed=0)
    assert pool.published[0].base.endswith("step-00003")
    assert len(pool.published) == 1 + 3 + 1
    for name in ("reward", "loss", "grad_norm"):
        assert [m[name] for m in resumed.metrics] == pytest.approx([m[name] for m in straight.metrics], abs=1e-6)


AHEAD = replace(SETTINGS, rollouts_ahead=1, drop_equal_groups=False)


def test_ahead_every_step_but_the_first_comes_from_the_policy_before_the_last_update(
    student: PolicyRef, tmp_path: Path
) -> None:
    pool = VersionPool(student)
    result = train(student, prompts_in(tmp_path), pool, AHEAD, out=str(tmp_path / "out"), seed=1)
    first = pool.published[1].version
    assert pool.rolled == [0, 0, *range(first, first + AHEAD.steps - 2)]
    assert result.metrics[0]["logprob_gap"] < 1e-4
    assert all(step["logprob_gap"] > 1e-4 for step in result.metrics[1:])


def test_a_run_that_rolls_out_ahead_and_is_killed_ends_the_same(student: PolicyRef, tmp_path: Path) -> None:
    prompts, out = prompts_in(tmp_path), str(tmp_path / "killed")
    with pytest.raises(ConnectionError):
        train(student, prompts, DyingPool(student, 4), AHEAD, out=out, seed=0)
    resumed = train(student, prompts, LocalPool(student), AHEAD, out=out, seed=0)
    straight = train(student, prompts, LocalPool(student), AHEAD, out=str(tmp_path / "straight"), seed=0)
    for name in ("reward", "loss", "grad_norm", "logprob_gap"):
        assert [m[name] for m in resumed.metrics] == pytest.approx([m[name] for m in straight.metrics], abs=1e-6)


def test_a_student_learns_from_rollouts_ahead(student: PolicyRef, tmp_path: Path) -> None:
    settings = replace(AHEAD, tuning="lora", lr=1e-2, steps=12)
    result = train(student, prompts_in(tmp_path), LocalPool(student), settings, out=str(tmp_path / "out"), seed=1)
    history = [metrics["reward"] for metrics in result.metrics]
    assert sum(history[-3:]) / 3 > sum(history[:3]) / 3 + 0.1, history


class VersionPool(LocalPool):
    """Writes down which policy every rollout batch came from."""

    def __init__(self, policy: PolicyRef) -> None:
        super().__init__(policy)
        self.rolled: list[int] = []

    def rollout(self, prompts: Sequence[Prompt], **settings: object) -> list[RolloutGroup]:
        groups = super().rollout(prompts, **settings)  # type: ignore[arg-type]
        self.rolled.append(groups[0].policy_version)
        return groups


def test_steps_of_another_run_are_not_taken_up(student: PolicyRef, tmp_path: Path) -> None:
    prompts, out = prompts_in(tmp_path), str(tmp_path / "out")
    with pytest.raises(ConnectionError):
        train(student, prompts, DyingPool(student, 3), SETTINGS, out=out, seed=0)
    pool = LocalPool(student)
    train(student, prompts, pool, replace(SETTINGS, steps=1), out=out, seed=1)
    assert pool.published[0] == student


def test_an_epoch_shows_every_prompt_once_and_the_next_is_shuffled_anew() -> None:
    shown = [index for step in range(6) for index in chosen(12, 4, step, seed=3)]
    first, second = shown[:12], shown[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert chosen(12, 4, 5, seed=3) == shown[20:]


def test_no_prompts_are_refused(student: PolicyRef, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no prompts"):
        train(student, [], LocalPool(student), SETTINGS, out=str(tmp_path), seed=0)


class StalePool(LocalPool):
    """An engine that never takes a new policy."""

    def publish(self, policy: PolicyRef) -> None:
        self.published.append(policy)


def test_rollouts_of_an_older_policy_are_refused(student: PolicyRef, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="version"):
        train(student, prompts_in(tmp_path), StalePool(student), SETTINGS, out=str(tmp_path / "out"), seed=0)
