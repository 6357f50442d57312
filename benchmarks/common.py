"""What the benchmarks share: running the command, knowing what was planted, writing the JSON beside the table."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dpe_ray.micro.planted import PLANS
from dpe_ray.micro.world import Scene, solve

RESULTS = Path(__file__).parent / "results"
KINDS = ("sound", "misconception", "knowledge", "perception")


def run(run_dir: Path, *overrides: str, yaml: str = "jobs/micro.yaml") -> float:
    """Run the command line; returns its wall seconds. The run's own output passes through."""
    command = [sys.executable, "-m", "dpe_ray", "run", yaml, "--run-dir", str(run_dir)]
    command += [part for override in overrides for part in ("--set", override)]
    started = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.monotonic() - started


def summary(run_dir: Path) -> dict[str, Any]:
    """summary.json of a run."""
    tree: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return tree


class Truth:
    """The sealed knowledge about the micro world: which skill an item needs, and how the student is weak in it."""

    def __init__(self, run_dir: Path, plan: str = "A") -> None:
        world = next((run_dir / "sources").glob("micro-world-*"))
        lines = (json.loads(line) for line in (world / "truth.jsonl").open())
        self._scenes = {line["image"]: Scene.from_json(json.dumps(line["scene"])) for line in lines}
        self._plan = PLANS[plan]

    def skill(self, image: str, question: str, options: Sequence[str] = ()) -> str:
        """Skill of an item, from its picture's scene and its question."""
        solved = solve(self._scenes[image], question, tuple(options))
        if solved is None:
            raise ValueError(f"no skill of the world asks {question!r}")
        return solved[0]

    def kind(self, skill: str) -> str:
        """sound, misconception, knowledge or perception."""
        return self._plan.kind(skill)

    def misconceptions(self) -> Mapping[str, str]:
        """Skill to the wrong rule that was planted."""
        return self._plan.misconceptions


def verdicts(file: Path, name: str) -> dict[str, dict[str, Any]]:
    """One set of a verdicts.parquet by item."""
    return {row["item"]: row for row in pq.read_table(file).to_pylist() if row["set"] == name}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *[[_cell(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, result: Mapping[str, Any]) -> Path:
    """benchmarks/results/NAME.json, with the command that made it."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    command = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]  # places are the machine's
    told = {"command": " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *command])}
    path.write_text(json.dumps({**told, **result}, indent=2) + "\n")
    return path


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
