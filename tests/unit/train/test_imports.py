"""Training runs where only torch, transformers, peft and pillow are installed."""

import os
import subprocess
import sys

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pydantic", "openai", "ray"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
import dpe_ray.models.policy
import dpe_ray.train.methods
import dpe_ray.train.trainer
from dpe_ray.models.policy import load_policy
from dpe_ray.types import PolicyRef
load_policy(PolicyRef(sys.argv[1]), trainable="lora")
assert not {"pydantic", "openai", "ray", "dpe_ray.config"} & set(sys.modules)
"""


def test_trainer_and_policy_run_without_pydantic_openai_and_ray(student) -> None:  # type: ignore[no-untyped-def]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, student.base],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
