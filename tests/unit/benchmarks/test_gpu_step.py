"""The benchmark for one GPU, at a size that a CPU can do."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SIZES = {"shape": "tiny", "prompt": 60, "sampled": 4, "group": 2, "groups": 2, "pairs": 1}
SMALL = ["--device", "cpu", *[str(word) for name, size in SIZES.items() for word in (f"--{name}", size)]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_step

    return gpu_step


def test_all_arms_make_their_steps_once_the_forms_are_found_equal(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench.common, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", *SMALL])
    bench.main()
    told = json.loads((tmp_path / "gpu_step.json").read_text())
    assert told["float32 difference"] < bench.TOLERANCE
    assert [row["arm"] for row in told["rows"]] == ["shared prefix", "plain", "TRL"]
    assert all(0 < row["update s"] < row["step s"] for row in told["rows"])
    assert len({row["update tflop"] for row in told["rows"]}) == 1
    assert "update mfu" not in told["rows"][0], "nobody knows the peak of a CPU"


def test_forms_that_differ_end_the_benchmark(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", *SMALL])
    monkeypatch.setattr(bench, "difference", lambda setting: 0.01)
    with pytest.raises(SystemExit, match="not equal"):
        bench.main()
