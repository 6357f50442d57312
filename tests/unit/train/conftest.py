"""One untrained student for all tests of training."""

from pathlib import Path

import pytest
import torch
from train_support import save_tiny_student

from dpe_ray.types import PolicyRef

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> PolicyRef:
    return save_tiny_student(Path(tmp_path_factory.mktemp("student")))
