"""One run seed, named child seeds: nothing in dpe_ray reads global random state."""

from dpe_ray.types import content_id


def child_seed(seed: int, *names: object) -> int:
    """A seed in 0 .. 2**31 - 1 for a named place of the run: same seed and names, same child."""
    return int(content_id(seed, *[str(name) for name in names]), 16) % 2**31
