"""The end of a training: OUT/trained.json says that the policy at OUT is whole, and what training it brought.

It stands before the steps are removed, so a training that was killed in between, or whose driver was killed before it
had the result, is not run again.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpe_ray.train.settings import Settings
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, TrainResult, content_id

STEPS, SFT = "steps", "sft"
"""Folders below OUT that only a training that goes on needs; the second is where a chain leaves its first policy."""


def training_key(policy: PolicyRef, prompts: Sequence[Prompt], settings: Settings, seed: int) -> str:
    """What tells one training from another: the same on every rank and after every restart, on whatever device."""
    asked = [(prompt.sample.id, prompt.text, prompt.sample.rationale) for prompt in prompts]
    return content_id(asked, asdict(policy), asdict(settings.on("")), seed)


class Ending:
    """The end of the training `key` at `out`. Every rank makes the same calls in the same order; rank 0 writes."""

    def __init__(self, out: str, key: str, world: World) -> None:
        self._out, self._key, self._world = Path(out), key, world
        self._file = self._out / "trained.json"

    def result(self) -> TrainResult | None:
        """What this training brought when it is over, else None; another one's end is forgotten then."""
        state = self._world.collect([self._read() if self._world.rank == 0 else None])[0][0]
        if state and state["key"] == self._key:
            brought = state["result"]
            return TrainResult(
                PolicyRef(**brought["policy"]), brought["steps"], tuple(brought["metrics"]), brought["refused"]
            )
        if state and self._world.rank == 0:
            self._file.unlink()
        return None

    def write(self, result: TrainResult) -> None:
        """Say that it is over."""
        if self._world.rank == 0:
            draft = self._file.with_suffix(".part")
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"key": self._key, "result": asdict(result)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._file)

    def clear(self) -> None:
        """Remove what only going on needs; nothing may serve from it any more."""
        if self._world.rank == 0:
            for name in (STEPS, SFT):
                shutil.rmtree(self._out / name, ignore_errors=True)
            (self._out / "sft.json").unlink(missing_ok=True)  # of earlier versions

    def _read(self) -> dict[str, Any] | None:
        if not self._file.exists():
            return None
        state: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        return state
