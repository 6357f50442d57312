"""A run of the micro world whose student is served by vLLM, from the command line."""

import json
from pathlib import Path

from command_line import command_line

ROUND = {"rounds": 1, "plan.total": 64, "train.steps": 2}
ASKS = {"models.student.engine": "vllm", "models.student.num_cpus": 0.5}


def test_a_round_of_the_micro_world_runs_with_engine_vllm(tmp_path: Path) -> None:
    settings = [argument for key, value in (ASKS | ROUND).items() for argument in ("--set", f"{key}={value}")]
    process = command_line("run", "jobs/micro.yaml", "--run-dir", tmp_path / "run", *settings)
    assert process.returncode == 0, process.stdout + process.stderr[-2000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "complete"
    [record] = summary["rounds"]
    assert record["train"]["steps"] == 2
    training = json.loads((tmp_path / "run" / "rounds" / "01" / "training.json").read_text())
    assert max(step["logprob_gap"] for step in training["metrics"]) < 1e-3
    assert (tmp_path / "run" / "rounds" / "01" / "policy" / "adapter_model.safetensors").exists()
