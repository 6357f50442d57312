"""A reward function of the user's own, `path/to/file.py:function`, in a process of its own.

    def prefers_short(sample: Sample, completion: Completion) -> float:
        return 1.0 if len(completion.token_ids) < 50 else 0.0

It is called once per completion with carriers of `dpe_ray.types` and returns a finite number, 0-1 by custom. Whatever
it does costs no more than that one score: it can raise, hang or end its process, and training goes on. Only a function
that gives no score at all for `GIVE_UP` completions, one after the other, ends it: nothing could be learned from it.
"""

import logging
import os
import socket
import subprocess
import sys
import weakref
from dataclasses import dataclass
from multiprocessing.connection import Connection

from dpe_ray.errors import ConfigError, TrainingError
from dpe_ray.types import Completion, Sample

log = logging.getLogger(__name__)

START_LIMIT_S = 60.0
"""Of loading the file, with all that it imports."""
GIVE_UP = 50
"""Failures in a row: with the default time limit, a function that hangs costs eight minutes."""


@dataclass(frozen=True)
class RewardFailure:
    """What stands in for a score."""

    kind: str
    """timeout, crash, not finite, or the name of what was raised."""
    reason: str


class UserReward:
    """A reward part with a process behind it, which is started again after it hung or ended.

    Raises ConfigError when the function cannot be loaded.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._told: set[str] = set()
        self._failed = 0
        """Calls in a row, up to the last one."""
        self._process: _Process | None = _Process(address, timeout_s)

    def __call__(self, sample: Sample, completion: Completion) -> float | RewardFailure:
        """Score; the first failure of every kind is logged. Raises TrainingError after `GIVE_UP` of them in a row."""
        score = self._score(sample, completion)
        if not isinstance(score, RewardFailure):
            self._failed = 0
            return score
        self._failed += 1
        if score.kind not in self._told:
            self._told.add(score.kind)
            log.warning("reward %s: sample %s: %s; it counts 0", self._address, sample.id, score.reason)
        if self._failed == GIVE_UP:
            raise TrainingError(
                f"train.reward: {self._address} gave no score for {GIVE_UP} completions in a row; the last time: "
                f"{score.reason}; mend it and run the same command again"
            )
        return score

    def close(self) -> None:
        """End the process; one more call starts another."""
        if self._process:
            self._process.end()
        self._process = None

    def _score(self, sample: Sample, completion: Completion) -> float | RewardFailure:
        try:
            self._process = self._process or _Process(self._address, self._timeout_s)
        except ConfigError as error:
            return RewardFailure("crash", str(error))
        score = self._process.call(sample, completion)
        if isinstance(score, RewardFailure) and score.kind in ("timeout", "crash"):
            self.close()
        return score


def check_reward(address: str) -> None:
    """Raise ConfigError when there is no such function. Costs a process start, and what the file imports."""
    UserReward(address, START_LIMIT_S).close()


class _Process:
    """One Python that has loaded the function. Ends with this object."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        ours, theirs = socket.socketpair()
        self._channel = Connection(ours.detach())
        module = "dpe_ray.train.reward_process"
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, address, str(theirs.fileno()), str(timeout_s)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.end = weakref.finalize(self, _end, self._popen, self._channel)
        if complaint := self._complaint():
            self.end()
            raise ConfigError(f"train.reward: {address}: {complaint}")

    def call(self, sample: Sample, completion: Completion) -> float | RewardFailure:
        """Ask for one score; of no more use after a timeout or a crash."""
        try:
            self._channel.send((sample, completion))
            if not self._channel.poll(self._timeout_s):
                return RewardFailure("timeout", f"no score after {self._timeout_s:g} s")
            answer: float | tuple[str, str] = self._channel.recv()
        except (EOFError, OSError):
            return RewardFailure("crash", "its process ended")
        return RewardFailure(*answer) if isinstance(answer, tuple) else answer

    def _complaint(self) -> str:
        """Wait until the function is loaded; empty when it is."""
        try:
            if not self._channel.poll(START_LIMIT_S):
                return f"the file takes more than {START_LIMIT_S:g} s to load"
            return str(self._channel.recv())
        except (EOFError, OSError):
            return "the file ends its process while it is loaded"


def _end(popen: "subprocess.Popen[bytes]", channel: Connection) -> None:
    popen.kill()
    popen.wait()
    channel.close()
