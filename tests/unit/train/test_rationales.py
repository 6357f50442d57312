"""Rationales that the policy worked out itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from train_support import make_group, make_prompts

from dpe_ray.train.rationales import with_rationales, worked_out
from dpe_ray.train.settings import SftSettings
from dpe_ray.train.targets import completion_text
from dpe_ray.train.world import World
from dpe_ray.types import Completion, PolicyRef, Prompt, Rollout, RolloutGroup

POLICY = PolicyRef("base", version=3)
SETTINGS = SftSettings(rationale_share=0.5, group_size=3)


class ScriptedPool:
    """Works out the right answer, with steps, to every question whose sample is in `knows`; guesses the others."""

    def __init__(self, knows: set[str]) -> None:
        self.knows = knows
        self.asked: list[str] = []
        self.published: list[PolicyRef] = []

    def rollout(self, prompts: Sequence[Prompt], *, group_size: int, **settings: object) -> list[RolloutGroup]:
        self.asked += [prompt.sample.id for prompt in prompts]
        return [self._group(prompt, group_size) for prompt in prompts]

    def publish(self, policy: PolicyRef) -> None:
        self.published.append(policy)

    def _group(self, prompt: Prompt, size: int) -> RolloutGroup:
        right = f"1. look\n2. see\nanswer: {prompt.sample.answer.value}"
        texts = ["1. look\nanswer: nothing"] * (size - 1) + [right if prompt.sample.id in self.knows else "nothing"]
        return RolloutGroup(prompt, tuple(Rollout(Completion(text)) for text in texts), POLICY.version)


def completed(prompts: list[Prompt], pool: ScriptedPool, file: Path, **settings: float) -> list[Prompt]:
    own = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    return with_rationales(POLICY, prompts, pool, own, file=file, seed=0, world=World())


def steps_of(prompts: list[Prompt]) -> list[int]:
    return [completion_text(prompt.sample).count("\n") for prompt in prompts]


def test_right_answers_of_the_policy_fill_the_share_and_no_more(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 10)
    done = completed(prompts, ScriptedPool({p.sample.id for p in prompts}), tmp_path / "r.json")
    assert [prompt.sample.id for prompt in done] == [prompt.sample.id for prompt in prompts]
    assert sorted(steps_of(done)) == [0] * 5 + [2] * 5


def test_wrong_answers_never_become_rationales(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 10)
    knows = {prompt.sample.id for prompt in prompts[:2]}
    done = completed(prompts, ScriptedPool(knows), tmp_path / "r.json", rationale_share=1.0)
    assert steps_of(done) == [2, 2] + [0] * 8


def test_samples_that_have_rationales_count_and_stay(tmp_path: Path) -> None:
    prompts = [*make_prompts(tmp_path, 3, "1. given"), *make_prompts(tmp_path / "short", 3)]
    pool = ScriptedPool(set())
    assert completed(prompts, pool, tmp_path / "r.json") == prompts
    assert pool.asked == pool.published == []


def test_the_start_of_the_round_is_asked_and_after_a_restart_nobody(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, 6)
    pool = ScriptedPool({p.sample.id for p in prompts})
    first = completed(prompts, pool, tmp_path / "r.json")
    assert pool.published == [POLICY]
    again = ScriptedPool(set())
    assert completed(prompts, again, tmp_path / "r.json") == first
    assert again.asked == again.published == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1. it is so\nanswer: red", True),
        ("answer: red", False),
        ("1. it is so\nanswer: blue", False),
        ("1. it is so\nanswer: red\nanswer: red", False),
        ("1. so the answer is blue\nanswer: red", False),
    ],
)
def test_only_a_right_answer_in_numbered_steps_is_kept(tmp_path: Path, text: str, kept: bool) -> None:
    (prompt,) = make_prompts(tmp_path, 1)
    group = make_group(prompt, [1], [0.0], [[1]])
    (rollout,) = group.rollouts
    said = replace(group, rollouts=(replace(rollout, completion=replace(rollout.completion, text=text)),))
    assert bool(worked_out(said)) is kept
