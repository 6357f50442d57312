"""Categories of images and the skills known under each: what a diagnosis can name. An analyst may add skills."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from dpe_ray.errors import ConfigError

ERROR_TYPES = ("visual_recognition", "calculation", "reasoning", "misunderstanding", "other")
"""How an answer fails (DPE, arXiv 2602.22859, public code)."""


@dataclass(frozen=True)
class Taxonomy:
    """Skills by category."""

    skills: dict[str, tuple[str, ...]]

    @property
    def categories(self) -> tuple[str, ...]:
        """In the file's order."""
        return tuple(self.skills)


def load_taxonomy(path: str = "") -> Taxonomy:
    """Read a YAML mapping of category to a list of skills; without a path DPE's twelve image categories.

    Raises ConfigError when the file is no such mapping.
    """
    source = Path(path) if path else files("dpe_ray") / "taxonomy.yaml"
    try:
        data = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"taxonomy {path}: cannot be read ({error}); give a YAML file of category: [skills]"
        ) from error
    if not isinstance(data, dict) or not all(isinstance(v, list | None) for v in data.values()):
        raise ConfigError(f"taxonomy {path}: must map each category to a list of skills")
    return Taxonomy({str(name): tuple(str(s) for s in skills or ()) for name, skills in data.items()})


def canonical(name: str) -> str:
    """Lower case words joined by underscores: `Read axis-values` and `readAxisValues` are `read_axis_values`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
