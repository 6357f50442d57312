"""Imports go down and stay where they belong; every check is shown a violation that it must report."""

from pathlib import Path

import pytest
from architecture.import_checks import dynamic_imports, misplaced_imports, upward_imports

PACKAGE = Path(__file__).parents[2] / "dpe_ray"


def plant(tmp_path, file, source):
    """A package `dpe_ray` that holds one file."""
    path = tmp_path / "dpe_ray" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return tmp_path / "dpe_ray"


@pytest.mark.parametrize("check", [upward_imports, misplaced_imports, dynamic_imports])
def test_the_package_keeps_the_rule(check):
    assert check(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("plan/quota.py", "from dpe_ray.rounds.store import RunFolder"),
        ("plan/quota.py", "import dpe_ray.runtime.session"),
        ("plan/quota.py", "from dpe_ray import rounds"),
        ("plan/quota.py", "from ..supply import stage"),
        ("supply/annotate/pool.py", "from ... import runtime"),
        ("grading/rules.py", "def f():\n    from dpe_ray.diagnose.stage import diagnose"),
        ("types/sample.py", "from dpe_ray.config import RunConfig"),
    ],
)
def test_an_upward_or_sideways_import_is_reported(tmp_path, file, source):
    assert len(upward_imports(plant(tmp_path, file, source))) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("rounds/round.py", "from dpe_ray.plan.quota import quotas"),
        ("plan/quota.py", "from .mixture import weights"),
        ("plan/quota.py", "from dpe_ray.plan import mixture"),
    ],
)
def test_a_downward_import_and_one_within_the_room_pass(tmp_path, file, source):
    assert upward_imports(plant(tmp_path, file, source)) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("rounds/round.py", "import ray"),
        ("supply/stage.py", "def f():\n    from ray.data import Dataset"),
        ("grading/rules.py", "import torch.nn.functional as F"),
        ("runtime/serve.py", "import vllm"),
        ("train/grpo.py", "try:\n    import deepspeed\nexcept ImportError:\n    deepspeed = None"),
    ],
)
def test_a_misplaced_import_is_reported(tmp_path, file, source):
    assert len(misplaced_imports(plant(tmp_path, file, source))) == 1


def test_an_engine_imported_inside_its_function_passes(tmp_path):
    assert misplaced_imports(plant(tmp_path, "models/vllm_engine.py", "def f():\n    import vllm")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nray = importlib.import_module('ray.data')",
        "from importlib import import_module as load\ntorch = load('torch')",
        "ray = __import__('ray')",
        "import importlib\nname = 'r' + 'ay'\nray = importlib.import_module(name)",
    ],
)
def test_an_import_by_string_is_reported(tmp_path, source):
    assert len(dynamic_imports(plant(tmp_path, "plan/quota.py", source))) == 1
