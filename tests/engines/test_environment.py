"""What this environment holds is what the repository says."""

import re
from importlib.metadata import distributions
from pathlib import Path

import torch
import torchvision
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = {"dpe-ray", "pip"}


def test_everything_installed_is_pinned() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints-engines.txt").read_text(encoding="utf-8"), re.M))
    here = {canonicalize_name(each.metadata["Name"]): each.version.partition("+")[0] for each in distributions()}
    assert {name: version for name, version in here.items() if pins.get(name) != version and name not in OURS} == {}


def test_torchvision_is_imported_beside_a_torch_without_cuda() -> None:
    assert torch.version.cuda is None
    assert torchvision.transforms.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape == (3, 4, 4)
