"""The micro world's sets as files: pool, labelled sets, ground truth, and the student's checkpoint.

All sets are drawn once per folder, from fixed seeds of their own: a run's seed changes what is sampled from them, never
what they hold. No two images are equal, within or across sets.
"""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from dpe_ray.errors import PoolError
from dpe_ray.micro.world import CATEGORIES, Item, Scene, ask, draw, make_scene, skills_for, solve

VERSION = 1
"""Rises when the content of a set changes."""
LEVELS = (1, 2, 3)
POOL_PER_CATEGORY = 360
POOL_FILES = 4
ITEMS_PER_CATEGORY = {"support": 60, "probe": 120, "gate": 120, "final": 120}
_HANDWRITING = {"support": "pool", "probe": "heldout", "gate": "heldout", "final": "heldout"}
"""Which real digits a set's pages are written with."""

_LABELLED = pa.schema([
    ("id", pa.string()), ("image", pa.binary()), ("question", pa.string()), ("options", pa.list_(pa.string())),
    ("answer", pa.string()), ("kind", pa.string()), ("aliases", pa.list_(pa.string())), ("tolerance", pa.float64()),
    ("category", pa.string()),
])  # fmt: skip


def student(folder: Path, seed: int) -> Path:
    """Give the checkpoint that ships with the package: a Hugging Face directory."""
    path = Path(str(files("dpe_ray.micro") / "checkpoint"))
    if not (path / "config.json").is_file():
        raise PoolError(
            f"builtin:micro-student: no checkpoint at {path}; train one with python -m dpe_ray.micro.pretrain"
        )
    return path


def pool(folder: Path, seed: int) -> Path:
    """Give a folder of parquet files with columns image and name: pictures without labels, in random order."""
    return materialise(folder) / "pool"


def support(folder: Path, seed: int) -> Path:
    """Give labelled samples that may be trained on."""
    return materialise(folder) / "support.parquet"


def probe(folder: Path, seed: int) -> Path:
    """Give the labelled samples from which a diagnosis draws."""
    return materialise(folder) / "probe.parquet"


def gate(folder: Path, seed: int) -> Path:
    """Give the suite that decides a round."""
    return materialise(folder) / "gate.parquet"


def final(folder: Path, seed: int) -> Path:
    """Give the suite of the final measurement."""
    return materialise(folder) / "final.parquet"


def truth(folder: Path, seed: int) -> Path:
    """Give the scene behind every image of all sets, one JSON line each: only the oracle opens it."""
    return materialise(folder) / "truth.jsonl"


def materialise(folder: Path, share: float = 1.0) -> Path:
    """Write all sets below `folder`, unless they are there; about ten seconds on one core.

    The sets appear all at once under their final name, so processes may race and may be killed. `share` makes every set
    smaller, for tests.
    """
    target = folder / f"micro-world-{VERSION}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".micro-world-", dir=folder))
    try:
        _write_all(draft, share)
        draft.chmod(0o755)
        os.rename(draft, target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


@dataclass
class _Studio:
    """Draws pictures, never the same twice, and keeps the scenes behind them."""

    scenes: dict[str, Scene] = field(default_factory=dict)

    def take(self, category: str, level: int, rng: Random, split: str) -> tuple[Scene, bytes]:
        """Make a new scene and its PNG."""
        while True:
            scene = make_scene(category, level, rng, split=split)
            buffer = io.BytesIO()
            draw(scene).save(buffer, "PNG", compress_level=1)
            digest = hashlib.sha256(buffer.getvalue()).hexdigest()
            if digest not in self.scenes:
                self.scenes[digest] = scene
                return scene, buffer.getvalue()


def _write_all(folder: Path, share: float) -> None:
    studio = _Studio()
    for name, count in ITEMS_PER_CATEGORY.items():
        rng = Random(f"micro-world-{VERSION} {name}")
        rows = list(_items(studio, rng, round(count * share), _HANDWRITING[name]))
        rng.shuffle(rows)
        rows = [{"id": f"{name}-{number:04}"} | row for number, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(rows, _LABELLED), folder / f"{name}.parquet")
    _write_pool(studio, folder / "pool", round(POOL_PER_CATEGORY * share))
    lines = (f'{{"image": "{image}", "scene": {scene.to_json()}}}\n' for image, scene in studio.scenes.items())
    (folder / "truth.jsonl").write_text("".join(lines), encoding="utf-8")


def _write_pool(studio: _Studio, folder: Path, count: int) -> None:
    rng = Random(f"micro-world-{VERSION} pool")
    pictures = [
        studio.take(category, level, rng, "pool")[1]
        for category in CATEGORIES
        for level in islice(cycle(LEVELS), count)
    ]
    rng.shuffle(pictures)
    rows = [{"image": data, "name": f"pool-{number:04}.png"} for number, data in enumerate(pictures)]
    size = -(-len(rows) // POOL_FILES)
    folder.mkdir()
    for part in range(POOL_FILES):
        table = pa.Table.from_pylist(rows[part * size : (part + 1) * size])
        pq.write_table(table, folder / f"part-{part}.parquet")


def _items(studio: _Studio, rng: Random, count: int, split: str) -> Iterator[dict[str, object]]:
    """Yield `count` rows per category, its skills and the levels in turn."""
    for category in CATEGORIES:
        skills = skills_for(category)
        for number in range(count):
            # a level lasts a whole turn of the skills, so that every skill meets every level
            level = LEVELS[number // len(skills) % len(LEVELS)]
            scene, data = studio.take(category, level, rng, split)
            item = _shuffled(scene, ask(scene, skills[number % len(skills)], rng), rng)
            yield {
                "image": data,
                "question": item.question,
                "options": list(item.options),
                "answer": item.answer,
                "kind": item.kind,
                "aliases": [],
                "tolerance": 0.0,
                "category": category,
            }


def _shuffled(scene: Scene, item: Item, rng: Random) -> Item:
    """Put the options into a random order."""
    if not item.options:
        return item
    solved = solve(scene, item.question, tuple(rng.sample(item.options, len(item.options))))
    assert solved is not None, f"the world cannot answer its own question: {item.question!r}"
    return solved[1]
