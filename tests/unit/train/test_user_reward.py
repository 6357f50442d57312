"""Reward functions of the user's own that misbehave: each costs its own score and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_support import make_prompt

from dpe_ray.errors import ConfigError, TrainingError
from dpe_ray.train.user_reward import GIVE_UP, RewardFailure, UserReward, check_reward
from dpe_ray.types import Completion, Sample

OWN = """
import os, sys, time
import beside

class Odd(BaseException):
    pass

def moody(sample, completion):
    does = completion.text
    if does == "hang":
        while True:
            pass
    if does == "sleep":
        time.sleep(60)
    if does == "exit":
        os._exit(3)
    if does == "kill":
        os.kill(os.getpid(), 9)
    if does == "leave":
        sys.exit(1)
    if does == "odd":
        raise Odd
    if does == "raise":
        raise ValueError("two\\nlines")
    if does == "deep":
        return moody_again(completion)
    if does == "print":
        print("hello" * 1000)
    return {"nan": float("nan"), "inf": float("inf"), "none": None, "words": "good", "true": True}.get(does, beside.ONE)

def moody_again(completion):
    return moody_again(completion)

def counts(sample, completion):
    return len(completion.token_ids) + len(sample.question)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("ONE = 1")
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_prompt(tmp_path, 0, "how many").sample


def test_it_sees_sample_and_completion(own: Path, sample: Sample) -> None:
    reward = UserReward(f"{own}:counts", 10.0)
    assert reward(sample, Completion("x", (1, 2, 3))) == 3 + len("how many")


@pytest.mark.parametrize(
    ("does", "kind"),
    [
        ("exit", "crash"),
        ("kill", "crash"),
        ("leave", "crash"),
        ("odd", "crash"),
        ("raise", "ValueError"),
        ("deep", "RecursionError"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("none", "TypeError"),
        ("words", "ValueError"),
    ],
)
def test_a_failure_has_its_kind_and_the_next_call_is_answered(own: Path, sample: Sample, does: str, kind: str) -> None:
    reward = UserReward(f"{own}:moody", 10.0)
    failure = reward(sample, Completion(does))
    assert isinstance(failure, RewardFailure)
    assert failure.kind == kind
    assert "\n" not in failure.reason
    assert reward(sample, Completion("fine")) == 1.0


@pytest.mark.parametrize("does", ["hang", "sleep"])
def test_a_call_that_does_not_end_is_given_up_and_the_next_one_is_answered(
    own: Path, sample: Sample, does: str
) -> None:
    reward = UserReward(f"{own}:moody", 1.0)
    assert reward(sample, Completion(does)) == RewardFailure("timeout", "no score after 1 s")
    answers = [reward(sample, Completion("fine")) for _ in range(3)]  # more than one: a busy machine is slow
    assert 1.0 in answers


def test_what_it_prints_is_no_answer_and_true_is_1(own: Path, sample: Sample) -> None:
    reward = UserReward(f"{own}:moody", 10.0)
    assert reward(sample, Completion("print")) == 1.0
    assert reward(sample, Completion("true")) == 1.0


def test_the_first_failure_of_a_kind_is_logged(own: Path, sample: Sample, caplog: pytest.LogCaptureFixture) -> None:
    reward = UserReward(f"{own}:moody", 10.0)
    for does in ("raise", "words", "nan", "raise"):
        reward(sample, Completion(does))
    assert [record.message.count("it counts 0") for record in caplog.records] == [1, 1]
    assert "ValueError: two lines" in caplog.text


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (None, "f", "is no file"),
        ("def f(sample, completion: return", "f", "SyntaxError"),
        ("import no_such_library", "f", "no_such_library"),
        ("def g(sample, completion): ...", "f", "has no function f"),
        ("f = 3", "f", "has no function f"),
        ("def f(sample): ...", "f", r"def f\(sample, completion\) -> float"),
        ("import os; os._exit(1)", "f", "ends its process"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_what_to_mend(
    tmp_path: Path, source: str | None, name: str, said: str
) -> None:
    file = tmp_path / "mine.py"
    if source is not None:
        file.write_text(source)
    with pytest.raises(ConfigError, match=said) as refused:
        check_reward(f"{file}:{name}")
    assert str(refused.value).startswith("train.reward: ")
    assert "\n" not in str(refused.value)


def test_only_failures_one_after_the_other_end_the_training(own: Path, sample: Sample) -> None:
    reward = UserReward(f"{own}:moody", 10.0)
    failing = [Completion("raise")] * (GIVE_UP - 1)
    for completion in [*failing, Completion("fine"), *failing]:
        reward(sample, completion)
    with pytest.raises(TrainingError, match=rf"own.py:moody gave no score for {GIVE_UP} completions.*two lines"):
        reward(sample, Completion("raise"))


def test_its_process_ends_with_it(own: Path, sample: Sample) -> None:
    reward = UserReward(f"{own}:moody", 10.0)
    reward(sample, Completion("fine"))
    process = reward._process
    assert process is not None
    pid = process._popen.pid
    reward.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_hanging_process_ends_though_its_trainer_was_killed(own: Path, tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from dpe_ray.train.user_reward import UserReward
from dpe_ray.types import *
reward = UserReward("{own}:moody", 0.2)
print(reward._process._popen.pid, flush=True)
reward._process._channel.send((Sample((), "q", Answer(AnswerKind.TEXT, "a")), Completion("hang")))
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid, until = int(done.stdout), time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.05)
