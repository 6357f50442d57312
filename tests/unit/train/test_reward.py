"""Rewards: what each part pays for, and how they add up."""

from pathlib import Path

import pytest
from train_support import make_prompt

from dpe_ray.errors import ConfigError, TrainingError
from dpe_ray.train.reward import Rubric, answer_format, length, rubric_of
from dpe_ray.train.settings import GrpoSettings
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


@pytest.mark.parametrize(("tokens", "reward"), [(0, 1.0), (80, 1.0), (85, 0.75), (90, 0.5), (100, 0.0), (120, 0.0)])
def test_length_falls_over_the_buffer_before_the_limit(tmp_path: Path, tokens: int, reward: float) -> None:
    completion = Completion("x", tuple(range(tokens)))
    assert length(make_prompt(tmp_path, 0).sample, completion, max_tokens=100, buffer=0.2) == pytest.approx(reward)


def test_a_rubric_names_functions_of_the_users_own_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def red(sample, completion):\n    return 'red' in completion.text")
    rubric = rubric_of(GrpoSettings(reward={"format": 0.5, f"{tmp_path}/own.py:red": 2.0}))
    group = RolloutGroup(make_prompt(tmp_path, 0), (Rollout(Completion("red")), Rollout(Completion("blue"))), 0)
    assert [rollout.reward for rollout in rubric.score(group).rollouts] == [2.0, 0.0]
    assert rubric.score(group).rollouts[0].parts == {"format": 0.0, "red": 1.0}


def test_two_rewards_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text("def accuracy(sample, completion):\n    return 1.0\nred = accuracy")
    with pytest.raises(ConfigError, match="two parts are named accuracy"):
        rubric_of(GrpoSettings(reward={f"{tmp_path}/a/own.py:accuracy": 1.0}))
    with pytest.raises(ConfigError, match="two parts are named red"):
        rubric_of(GrpoSettings(reward={f"{tmp_path}/{folder}/own.py:red": 1.0 for folder in ("a", "b")}))
