"""Every reward on a folder of completions as models really write them.

A file says above the dashes what was asked and what it earns, below them what was written.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from dpe_ray.train.reward import PARTS, Rubric, rubric_of
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.user_reward import UserReward
from dpe_ray.types import Answer, AnswerKind, Completion, Prompt, Rollout, RolloutGroup, Sample

FOLDER = Path(__file__).parent / "completions"
FILES = sorted(FOLDER.glob("*.txt"))
MAX_TOKENS = 100

OWN_REWARDS = """
import json

def is_json(sample, completion):
    json.loads(completion.text)
    return 1.0
"""


@dataclass(frozen=True)
class Ugly:
    """One file."""

    sample: Sample
    completion: Completion
    accuracy: float
    format: float


def read(file: Path) -> Ugly:
    head, _, text = file.read_bytes().decode().partition("---\n")
    said = dict(line.split(": ", 1) for line in head.strip().splitlines())
    options = tuple(said["options"].split(" | ")) if "options" in said else ()
    answer = Answer(AnswerKind(said["kind"]), said["answer"])
    words = tuple(range(len(text.split())))[:MAX_TOKENS]
    sample = Sample((), f"What of {file.stem}?", answer, options)
    return Ugly(sample, Completion(text, words), float(said["accuracy"]), float(said["format"]))


def test_there_are_many() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accuracy_and_format_of_an_ugly_completion(file: Path) -> None:
    ugly = read(file)
    scores = {name: PARTS[name](ugly.sample, ugly.completion) for name in ("accuracy", "format")}
    assert scores == {"accuracy": ugly.accuracy, "format": ugly.format}


def test_length_is_within_its_bounds_on_all_and_0_for_the_endless_ones() -> None:
    rubric = rubric_of(GrpoSettings(reward={"length": 1.0}, max_tokens=MAX_TOKENS))
    scores = {file.stem: rubric.parts["length"](read(file).sample, read(file).completion) for file in FILES}
    assert {name for name, score in scores.items() if score == 0.0} == {"repeated_loop", "long_ramble_without_answer"}
    assert {score for score in scores.values() if score != 0.0} == {1.0}


def test_a_reward_of_the_users_own_that_fails_on_most_of_them_is_counted_and_scores_the_rest(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_REWARDS)
    own = UserReward(f"{tmp_path}/own.py:is_json", timeout_s=10.0)
    rubric = Rubric({"format": 0.5, "is_json": 1.0}, {**PARTS, "is_json": own})
    rollouts = {}
    for file in FILES:
        ugly = read(file)
        group = RolloutGroup(Prompt(ugly.sample, ugly.sample.question), (Rollout(ugly.completion),), 0)
        (rollouts[file.stem],) = rubric.score(group).rollouts
    own.close()
    assert {name for name, rollout in rollouts.items() if not rollout.reward_errors} == {"json"}
    assert rollouts["json"].reward == 1.0
    assert rollouts["clean"].reward == 0.5
    assert rollouts["clean"].parts == {"format": 1.0, "is_json": 0.0}
    assert rollouts["empty"].reward_errors[0].startswith("is_json: JSONDecodeError")
