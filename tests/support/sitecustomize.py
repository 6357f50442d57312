"""Lets the CUDA build of torchvision be imported beside the CPU build of torch; the registry has no CPU build of it.

For `make test-engines` alone: Python imports this file at its start where PYTHONPATH names its folder, so every
subprocess has it too. Nothing here computes boxes: the two operators are declared, never called.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


class _DeclareOperators(importlib.abc.MetaPathFinder):
    """Declares torchvision's operators in front of its first import; costs nothing where it is not imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            sys.torchvision_operators = _declared(torch.library)  # type: ignore[attr-defined]


def _declared(library: Any) -> Any:
    operators = library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators  # they are gone with the object


sys.meta_path.insert(0, _DeclareOperators())
