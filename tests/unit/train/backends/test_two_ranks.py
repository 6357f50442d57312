"""Two processes make the same updates as one, and leave the same files: ddp and fsdp2. DeepSpeed's are in test_zero."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from backend_support import FORWARDS, SETTINGS, furthest, on_two_ranks, small_chunks, tuned, updated
from train_support import save_tiny_student

from dpe_ray.train.settings import SftSettings
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef

SFT = SftSettings(
    lora_rank=4, lora_alpha=8, lr=1e-5, batch_size=3, micro_batch=1, rationale_share=0.0, max_tokens=4, save_every=1
)
BACKENDS, TUNINGS = ("ddp", "fsdp2"), ("full", "lora")
CASES = [(backend, tuning) for backend in BACKENDS for tuning in TUNINGS]
ZERO_GRADIENT = "k_proj.bias"
"""It cancels out in the softmax; AdamW makes a step of rounding noise."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What all backends did on two ranks."""
    folder = tmp_path_factory.mktemp("two")
    student = save_tiny_student(folder / "student")
    works: dict[str, Any] = {"student": lambda_free(student)}
    for backend, tuning in CASES:
        works[f"grpo-{backend}-{tuning}"] = partial(updated, replace(SETTINGS, backend=backend, tuning=tuning))
        works[f"sft-{backend}-{tuning}"] = partial(tuned, replace(SFT, backend=backend, tuning=tuning))
    return on_two_ranks(works, student, folder / "ranks")
