"""Categories of images and the skills known under each: what a diagnosis can name. An analyst may add skills."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import Stemmer
import yaml

from dpe_ray.errors import ConfigError

ERROR_TYPES = ("visual_recognition", "calculation", "reasoning", "misunderstanding", "other")
"""How an answer fails (DPE, arXiv 2602.22859, public code)."""
UNSPECIFIED = "unspecified"
"""Skill of an item for which no analyst gave a usable name."""

_SMALL_WORDS = re.compile("an?|and|at|by|for|from|in|into|of|on|or|the|their|to|with")


@dataclass(frozen=True)
class Taxonomy:
    """Skills by category."""

    skills: dict[str, tuple[str, ...]]

    @property
    def categories(self) -> tuple[str, ...]:
        """In the file's order."""
        return tuple(self.skills)

    def known(self, category: str) -> tuple[str, ...]:
        """Skills under a category; none for one that the taxonomy does not list."""
        return self.skills.get(category, ())

    def grown(self, category: str, names: Sequence[str]) -> "Taxonomy":
        """The same tree with new skills behind those that the category has; `unspecified` is no skill."""
        new = [name for name in dict.fromkeys(names) if name not in (*self.known(category), UNSPECIFIED)]
        return Taxonomy({**self.skills, category: (*self.known(category), *new)})


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
    """Lower case words joined by underscores: `Read axis-values` and `readAxisValues` are `read_axis_values`.

    Letters of any script are kept, so that two names in Chinese stay two.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\W_]+", "_", spaced.casefold()).strip("_")


def known_name(said: str, known: Iterable[str]) -> str:
    """Find the name that a model meant: as it stands, else the only one of equal canonical form; empty for none."""
    alike = [name for name in known if name == said or canonical(name) == canonical(said)]
    return said if said in alike else alike[0] if len(alike) == 1 else ""


def stems(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning, in no order: `read_axis_value` has those of `reading axis values`.

    Snowball's English stemmer; small words are left out unless there are no others.
    """
    words = canonical(text).split("_")
    # made anew: a stemmer may not be shared by threads
    return frozenset(Stemmer.Stemmer("english").stemWords([w for w in words if not _SMALL_WORDS.fullmatch(w)] or words))


def merge_names(
    counts: Mapping[str, int],
    known: Sequence[str],
    vectors: Mapping[str, Sequence[float]] | None = None,
    threshold: float = 0.85,
) -> dict[str, str]:
    """Map every name in `counts` to the canonical one among its paraphrases; the same for any order of `counts`.

    Greedy: known skills first, then names from frequent to rare and from a to z; each joins the first head with equal
    stems, else, where `vectors` (length 1) are given, the nearest one with a cosine of at least `threshold`, else it
    becomes a head itself. Known skills never merge with each other; `unspecified` stays alone.
    """
    vectors = vectors or {}
    heads = {name: stems(name) for name in known}
    merged: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        head = name if name in heads or name == UNSPECIFIED else _head(name, heads, vectors, threshold)
        merged[name] = head
        if head != UNSPECIFIED:
            heads.setdefault(head, stems(head))
    return merged


def _head(
    name: str, heads: Mapping[str, frozenset[str]], vectors: Mapping[str, Sequence[float]], threshold: float
) -> str:
    own = stems(name)
    same = next((head for head, words in heads.items() if words == own), None)
    if same is not None or name not in vectors:
        return same or name
    near = {head: _cosine(vectors[name], vectors[head]) for head in heads if head in vectors}
    best = max(near, key=lambda head: near[head], default=name)
    return best if near.get(best, -1.0) >= threshold else name


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))
