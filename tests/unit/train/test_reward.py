"""Rewards: what each part pays for, and how they add up."""

from pathlib import Path

import pytest
from train_support import make_prompt

from dpe_ray.errors import TrainingError
from dpe_ray.train.reward import Rubric, answer_format
from dpe_ray.types import Completion, Rollout, RolloutGroup


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("1. look at the circle\n2. it is red\nanswer: red", 1.0),
        ("1) look\nAnswer: red\n", 1.0),
        ("1. look\n\nanswer: red", 1.0),
        ("answer: red", 0.0),
        ("it is red\nanswer: red", 0.0),
        ("1. look\nanswer: red\nanswer: blue", 0.0),
        ("1. look\nanswer: red\nas i said", 0.0),
        ("1. look\nanswer:", 0.0),
        ("1. look\n2. it is red", 0.0),
        ("", 0.0),
    ],
)
def test_format_pays_for_numbered_steps_and_one_closing_answer_line(tmp_path: Path, text: str, reward: float) -> None:
    assert answer_format(make_prompt(tmp_path, 0).sample, text) == reward


def test_reward_is_the_weighted_sum_of_its_parts(tmp_path: Path) -> None:
    texts = ["1. look\nanswer: red", "answer: red", "1. look\nanswer: blue", "blue"]
    group = RolloutGroup(make_prompt(tmp_path, 0), tuple(Rollout(Completion(text)) for text in texts), 3)
    scored = Rubric({"accuracy": 0.9, "format": 0.1}).score(group)
    assert [rollout.reward for rollout in scored.rollouts] == pytest.approx([1.0, 0.9, 0.1, 0.0])
    assert scored.rollouts[1].parts == {"accuracy": 1.0, "format": 0.0}
    assert scored.policy_version == 3


def test_unknown_reward_part_is_refused() -> None:
    with pytest.raises(TrainingError, match="style"):
        Rubric({"style": 1.0})
