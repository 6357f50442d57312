"""ZeRO-2 and ZeRO-3 under Ray Train: DeepSpeed builds an extension first, which takes 20-30 s on a fresh machine."""

from pathlib import Path

import pytest
import ray.cloudpickle
import train_support
from chain_support import assert_chain, run_chain
from train_support import make_prompt, save_tiny_student

ray.cloudpickle.register_pickle_by_value(train_support)  # workers do not have the tests on their path


@pytest.mark.parametrize(("backend", "tuning"), [("zero2", "lora"), ("zero3", "full")])
async def test_two_workers_run_a_chain(own_ray: None, tmp_path: Path, backend: str, tuning: str) -> None:
    student = save_tiny_student(tmp_path / "student")
    samples = [make_prompt(tmp_path, index).sample for index in range(6)]
    result = await run_chain(student, samples, tmp_path, backend, tuning)
    assert_chain(result, student, tmp_path, tuning)
