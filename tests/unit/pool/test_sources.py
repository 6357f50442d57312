from pathlib import Path

import pytest

from dpe_ray.errors import PoolError
from dpe_ray.pool.sources import resolve


@pytest.mark.parametrize("source", ["/data/images", "s3://bucket/x/*.png", "relative/file.parquet"])
def test_paths_globs_and_urls_stay_as_they_are(source: str, tmp_path: Path) -> None:
    assert resolve(source, tmp_path, 0) == source


def test_an_unknown_builtin_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="micro-world"):
        resolve("builtin:nothing", tmp_path, 0)
