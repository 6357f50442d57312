import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import make_png, make_sample
from PIL import Image, ImageFilter

from dpe_ray.pool.contamination import HeldOut
from dpe_ray.pool.images import ImageStore
from dpe_ray.types import Sample

HELD = make_png(7, size=256)


def changed(change: Callable[[Image.Image], Image.Image], form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    change(Image.open(io.BytesIO(HELD))).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., str | None]:
    store = ImageStore(tmp_path)

    def item(data: bytes, question: str) -> Sample:
        return make_sample(question, image=store.put(data))

    held_out = pickle.loads(pickle.dumps(HeldOut.build([item(HELD, "How many boxes are blue?")])))
    return lambda data, question="Something else entirely": held_out(item(data, question))


@pytest.mark.parametrize(
    "data",
    [
        HELD,
        changed(lambda i: i, "JPEG", quality=60),
        changed(lambda i: i.resize((128, 128))),
        changed(lambda i: i.filter(ImageFilter.GaussianBlur(1))),
        changed(lambda i: i.convert("RGB").point(lambda v: min(255, v + 4))),
    ],
)
def test_a_near_duplicate_is_refused_whatever_is_asked(ask: Callable[..., str | None], data: bytes) -> None:
    assert ask(data) is not None


def test_another_image_passes_even_with_the_same_question(ask: Callable[..., str | None]) -> None:
    assert ask(make_png(8, size=256), "How many boxes are blue?") is None


def test_equal_hashes_with_other_pixels_are_no_duplicate(ask: Callable[..., str | None]) -> None:
    # far darker: the hash sees structure only, the pixels differ
    dark = changed(lambda i: i.convert("RGB").point(lambda v: v // 3))
    assert ask(dark) is None
    assert "question" in str(ask(dark, "how many boxes are BLUE"))


def test_nothing_held_out_refuses_nothing(tmp_path: Path) -> None:
    sample = make_sample(image=ImageStore(tmp_path).put(HELD))
    assert HeldOut.build([])(sample) is None
