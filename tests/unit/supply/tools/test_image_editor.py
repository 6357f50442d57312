import io
from pathlib import Path

import pytest
from builders import make_png
from PIL import Image

from dpe_ray.errors import ConfigError, PoolError
from dpe_ray.pool.images import ImageStore
from dpe_ray.supply.tools.edit_limits import EditLimits, RefusedEdit, load_limits
from dpe_ray.supply.tools.image_editor import ModelEditor, PillowEditor
from dpe_ray.supply.tools.operations import EditPlan

FLIP = EditPlan.model_validate({"operations": [{"op": "flip"}]})
ASKED = EditPlan(instruction="Paint the sky green.")


class Painter:
    """An editing model that sends back the picture it was made with."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, []

    async def edit(self, images, instruction, seed):
        self.asked.append((len(images), instruction, seed))
        return self.data


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path)


def pillow(store: ImageStore) -> PillowEditor:
    return PillowEditor(store, load_limits())


async def test_an_edit_is_stored_with_its_parent_its_operations_and_its_licence(store):
    image = store.put(make_png(1), licence="by 4.0")
    edited = await pillow(store).edit([image], FLIP, category="natural_scene", seed=5)
    assert (edited.origin, edited.licence) == ("edit", "by 4.0")
    assert edited.source == f'edit of {image.sha256[:16]}, seed 5: {{"operations":[{{"op":"flip"}}]}}'
    assert edited.sha256 != image.sha256
    assert edited == await pillow(store).edit([image], FLIP, category="natural_scene", seed=5)


async def test_what_a_category_forbids_is_not_done(store):
    image = store.put(make_png(1))
    with pytest.raises(RefusedEdit, match="flip is not done to images of text_dense"):
        await pillow(store).edit([image], FLIP, category="text_dense", seed=0)
    painter = Painter(make_png(2))
    with pytest.raises(RefusedEdit, match="instruction is not done to images of medical"):
        await ModelEditor(painter, pillow(store)).edit([image], ASKED, category="medical", seed=0)
    assert painter.asked == []
    with pytest.raises(RefusedEdit, match="no operation"):
        await pillow(store).edit([image], EditPlan(), category="artistic", seed=0)


async def test_a_plan_that_cannot_be_done_is_refused(store):
    image = store.put(make_png(1))
    grid = EditPlan.model_validate({"operations": [{"op": "grid"}]})
    with pytest.raises(RefusedEdit, match="only one picture"):
        await pillow(store).edit([image], grid, category="artistic", seed=0)
    with pytest.raises(RefusedEdit, match="needs an editing model"):
        await pillow(store).edit([image], ASKED, category="artistic", seed=0)


async def test_a_model_follows_the_instruction_and_the_operations_come_after(store):
    painted = Image.new("RGB", (64, 64), "red")
    painted.paste("blue", (0, 0, 32, 64))
    buffer = io.BytesIO()
    painted.save(buffer, "PNG")
    painter, image = Painter(buffer.getvalue()), store.put(make_png(1), licence="by 4.0")
    both = ASKED.model_copy(update={"operations": FLIP.operations})
    edited = await ModelEditor(painter, pillow(store)).edit([image], both, category="artistic", seed=7)
    assert painter.asked == [(1, "Paint the sky green.", 7)]
    assert Image.open(edited.uri).getpixel((60, 5)) == (0, 0, 255)
    alone = await ModelEditor(painter, pillow(store)).edit([image], ASKED, category="artistic", seed=7)
    assert Image.open(alone.uri).getpixel((5, 5)) == (0, 0, 255)
    assert (alone.origin, alone.licence) == ("edit", "by 4.0")


async def test_what_a_model_sends_is_checked_like_any_strangers_file(store):
    painter = Painter(b"<svg onload=alert(1)>")
    with pytest.raises(PoolError, match="format"):
        await ModelEditor(painter, pillow(store)).edit([store.put(make_png())], ASKED, category="artistic", seed=0)


@pytest.mark.parametrize("text", ["- flip", "text_dense: flip", "text_dense: [fly]", "a: [", None])
def test_limits_that_name_nothing_known_are_a_config_error(tmp_path, text):
    path = tmp_path / "limits.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="edit limits"):
        load_limits(str(path))


def test_a_users_limits_replace_ours(tmp_path):
    (tmp_path / "limits.yaml").write_text("artistic: [flip]\nmap: []")
    limits = load_limits(str(tmp_path / "limits.yaml"))
    assert limits == EditLimits({"artistic": frozenset({"flip"}), "map": frozenset()})
    limits.check(FLIP, "text_dense")
    with pytest.raises(RefusedEdit):
        limits.check(FLIP, "artistic")
