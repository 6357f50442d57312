"""Paraphrases of one skill become one: a tree of category and skill, into which new names grow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dpe_ray.ports import EmbedderDoor
from dpe_ray.taxonomy import Taxonomy, merge_names

NEAR = 0.85
"""Least cosine of two names that mean the same. It depends on the encoder; this one suits sentence encoders."""


class Merged(NamedTuple):
    """Canonical names and the tree that holds them."""

    names: dict[str, dict[str, str]]
    """Category to name as said to canonical name."""
    tree: Taxonomy


async def canonicalise(
    named: Mapping[str, Sequence[str]],
    taxonomy: Taxonomy,
    embedder: EmbedderDoor | None = None,
    threshold: float = NEAR,
) -> Merged:
    """Merge the names that were said under each category, repetitions counted, into the taxonomy.

    Costs one embedding call in all, none without an embedder: then only equal stems merge (`taxonomy.merge_names`).
    Raises what the embedder raises.
    """
    vectors: dict[str, tuple[float, ...]] = {}
    if embedder:
        texts = {name for category, names in named.items() for name in (*names, *taxonomy.known(category))}
        vectors = await _vectors(sorted(texts), embedder)
    merged, tree = {}, taxonomy
    for category in sorted(named):
        known = taxonomy.known(category)
        merged[category] = merge_names(Counter(named[category]), known, vectors, threshold)
        tree = tree.grown(category, sorted(set(merged[category].values()) - set(known)))
    return Merged(merged, tree)


async def _vectors(names: Sequence[str], embedder: EmbedderDoor) -> dict[str, tuple[float, ...]]:
    if not names:
        return {}
    vectors = await embedder.open().embed([name.replace("_", " ") for name in names])
    return dict(zip(names, vectors, strict=True))
