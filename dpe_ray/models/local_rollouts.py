"""Rollouts in the training worker itself: an engine of its own beside the weights that are trained."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpe_ray.errors import TrainingError
from dpe_ray.models.engines import create_engine
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup


class LocalRolloutPool:
    """A RolloutPool in this process. One rank publishes, through a file that every rank must see; all take it up."""

    def __init__(self, engine: tuple[str, str, dict[str, Any]], board: str) -> None:
        """`engine` as `create_engine`; `board` is where the published policy stands, in a folder that may be made."""
        self._engine: Any = create_engine(*engine)
        if not hasattr(self._engine, "rollout"):
            raise TrainingError(f"train.rollouts: engine {engine[0]} gives none; use transformers or vllm")
        if doze := getattr(self._engine, "doze", None):
            doze()  # the trainer loads next
        self._board = Path(board)
        self._served: PolicyRef | None = None

    def rollout(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`. Raises TrainingError before the first publication."""
        self._take_up()
        groups: list[RolloutGroup] = self._engine.rollout(
            prompts, group_size=group_size, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed
        )
        return groups

    def publish(self, policy: PolicyRef) -> None:
        """As `RolloutPool.publish`; other ranks take the policy up with their next rollouts."""
        self._board.parent.mkdir(parents=True, exist_ok=True)
        draft = self._board.with_suffix(".part")
        draft.write_text(json.dumps(asdict(policy)), encoding="utf-8")
        os.replace(draft, self._board)
        self._take_up()

    def _take_up(self) -> None:
        try:
            policy = PolicyRef(**json.loads(self._board.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"rollouts: no published policy at {self._board} ({error})") from error
        if policy == self._served:
            return
        if (version := self._engine.load_policy(policy)) != policy.version:
            raise TrainingError(f"rollouts: the engine serves policy {version} instead of {policy.version}")
        self._served = policy
