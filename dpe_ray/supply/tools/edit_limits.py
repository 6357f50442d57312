"""What may be edited in images of which category."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import get_args

import yaml

from dpe_ray.errors import ConfigError, PoolError
from dpe_ray.supply.tools.operations import EditPlan, Operation, Step

INSTRUCTION = "instruction"
"""An edit by a model."""


class RefusedEdit(PoolError):
    """An edit that cannot be done, or must not be done to this image."""


@dataclass(frozen=True)
class EditLimits:
    """Forbidden operations by category."""

    forbidden: dict[str, frozenset[str]]

    def check(self, plan: EditPlan, category: str) -> None:
        """Raise RefusedEdit when the plan holds what the category forbids, or nothing at all."""
        wanted = [step.op for step in plan.operations] + [INSTRUCTION] * bool(plan.instruction)
        if not wanted:
            raise RefusedEdit("edit: the plan holds no operation and no instruction")
        if refused := sorted(set(wanted) & self.forbidden.get(category, frozenset())):
            raise RefusedEdit(f"edit: {', '.join(refused)} is not done to images of {category}")

    def allowed(self, category: str, *, instruction: bool) -> tuple[str, ...]:
        """Operations that the category allows, and `instruction` where a model can follow one."""
        names = (*operation_names(), *([INSTRUCTION] if instruction else []))
        return tuple(name for name in names if name not in self.forbidden.get(category, frozenset()))


def load_limits(path: str = "") -> EditLimits:
    """Read a YAML mapping of category to forbidden operations; without a path ours.

    Raises ConfigError when the file is no such mapping or names an operation that does not exist.
    """
    source = Path(path) if path else files("dpe_ray") / "supply" / "tools" / "edit_limits.yaml"
    try:
        data = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"edit limits {path}: cannot be read ({error}); give YAML of category: [operations]"
        ) from error
    if not isinstance(data, dict) or not all(isinstance(names, list) for names in data.values()):
        raise ConfigError(f"edit limits {path}: must map each category to a list of operations")
    known = {*operation_names(), INSTRUCTION}
    for category, names in data.items():
        if unknown := sorted(set(map(str, names)) - known):
            raise ConfigError(
                f"edit limits {path}: {category}: no such operation {', '.join(unknown)}; there are {sorted(known)}"
            )
    return EditLimits({str(category): frozenset(map(str, names)) for category, names in data.items()})


def operation_names() -> tuple[str, ...]:
    """All operations, as an `EditPlan` names them."""
    kinds: tuple[type[Step], ...] = get_args(get_args(Operation)[0])
    return tuple(get_args(kind.model_fields["op"].annotation)[0] for kind in kinds)
