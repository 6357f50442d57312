"""A run of the micro world whose student is served by vLLM, from the command line."""

import json
from pathlib import Path

import yaml
from command_line import command_line

from dpe_ray.micro.sources import materialise

ASKED = {"models.student.engine": "vllm", "rounds": 1, "plan.total": 64, "train.steps": 2}


def small_sets(folder: Path) -> dict[str, object]:
    """The micro world at a tenth of its size: with all of it, measuring takes minutes."""
    sets = materialise(folder, share=0.1)
    suite = {name: str(sets / f"{name}.parquet") for name in ("support", "probe", "gate", "final")}
    return {
        "models.teacher.source": str(sets / "truth.jsonl"),
        "pool.source": str(sets / "pool"),
        "support.source": suite["support"],
        "probe": {"source": suite["probe"], "size": 60},
        "decision.suite": suite["gate"],
        "final": [{"suite": suite["final"]}],
    }


def test_a_round_of_the_micro_world_runs_with_engine_vllm(tmp_path: Path) -> None:
    settings = ASKED | small_sets(tmp_path / "world")
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={yaml.safe_dump(value)}")]
    run = tmp_path / "run"
    process = command_line("run", "jobs/micro.yaml", "--run-dir", run, *overrides)
    assert process.returncode == 0, process.stdout + process.stderr[-2000:]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "complete"
    [record] = summary["rounds"]
    assert record["train"]["steps"] == 2
    training = json.loads((run / "rounds" / "01" / "training.json").read_text())
    assert max(step["logprob_gap"] for step in training["metrics"]) < 1e-3
    assert (run / "rounds" / "01" / "policy" / "adapter_model.safetensors").exists()
