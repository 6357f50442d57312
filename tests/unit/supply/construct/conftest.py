import hashlib
import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random

import imagehash
import numpy as np
import pytest
from builders import FakeChat
from PIL import Image

from dpe_ray.supply.construct.maker import Recipe, construct
from dpe_ray.supply.construct.order import OrderConfig
from dpe_ray.supply.construct.registry import load_programs
from dpe_ray.types import ImageRef

PROGRAMS = load_programs()


@dataclass(frozen=True)
class Shelf:
    """An ImageSink that pickles, as the pool's store does."""

    folder: Path

    def put(self, data: bytes, origin: str = "pool", licence: str = "") -> ImageRef:
        picture, sha = Image.open(BytesIO(data)), hashlib.sha256(data).hexdigest()
        (self.folder / sha).write_bytes(data)
        size = {"width": picture.width, "height": picture.height, "media_type": f"image/{picture.format.lower()}"}
        return ImageRef(sha, str(imagehash.phash(picture)), **size, uri=str(self.folder / sha), origin=origin)


def photograph(seed: int) -> bytes:
    """Blurred noise: every place looks different, and none has a flat colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Workshop:
    """Makes samples as a worker does."""

    shelf: Shelf
    photos: list[ImageRef]

    def recipe(self, name: str, ask: str, difficulty: float = 0.5, seed: int = 0, **changes: object) -> Recipe:
        program = PROGRAMS[name]
        params = program.sample(ask, difficulty, Random(f"{name} {ask} {difficulty} {seed}"))
        base = self.photos[seed % len(self.photos)] if program.on_image else None
        return Recipe(name, params.model_copy(update=changes), seed, base)

    def make(self, name: str, ask: str, difficulty: float = 0.5, seed: int = 0, **changes: object):
        return construct(PROGRAMS[name], self.recipe(name, ask, difficulty, seed, **changes), self.shelf, "any")


@pytest.fixture
def workshop(tmp_path) -> Workshop:
    shelf = Shelf(tmp_path)
    return Workshop(shelf, [shelf.put(photograph(seed)) for seed in range(3)])


@pytest.fixture
def bars():
    """A planner's entry for a small bar chart; the answer is 20."""
    return _bars


def _bars(**changes: object) -> dict:
    params = {
        "ask": "read_value",
        "form": "open",
        "title": "Rain",
        "unit": "Millimetres",
        "labels": ["May", "June", "July"],
        "levels": [4, 8, 12],
        "step": 5,
    }
    return {"program": "bar_chart", "params": {**params, **changes}}


class Crew:
    """A planner that answers with `samples`, a student whose first `right` answers of nine are `says`."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.samples: list[object] = []
        self.replies: list[str | Exception] = []
        """What the planner answers first, whatever `samples` are."""
        self.right, self.says = 5, "20"
        self.planner, self.student = FakeChat(self._plan), FakeChat(self._answer)

    def _plan(self, request):
        return self.replies.pop(0) if self.replies else json.dumps({"samples": self.samples})

    def _answer(self, request):
        return [f"answer: {self.says}"] * self.right + ["answer: -1"] * (request.n - self.right)

    def config(self, **values: object) -> OrderConfig:
        doors = {"planner": self.planner, "student": self.student}
        return OrderConfig(**{"doors": doors, "store": self.shelf, **values})


@pytest.fixture
def crew(tmp_path) -> Crew:
    return Crew(Shelf(tmp_path))
