import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from dpe_ray.supply.tools.edit_limits import operation_names
from dpe_ray.supply.tools.operations import MOST_PIXELS, EditPlan, apply

STEPS = {
    "crop": {"box": [0, 0, 0.5, 0.5], "zoom": 2},
    "rotate": {"degrees": 90},
    "flip": {"axis": "horizontal"},
    "brightness": {"factor": 0.5},
    "contrast": {"factor": 2},
    "noise": {"sigma": 20},
    "blur": {"radius": 4},
    "jpeg": {"quality": 5},
    "redact": {"boxes": [[0.5, 0.5, 1, 1]], "fill": "black"},
    "label": {"marks": [{"x": 0.1, "y": 0.1, "text": "P1"}]},
    "side_by_side": {"lettered": True},
    "grid": {"columns": 1},
    "inset": {"box": [0, 0, 0.25, 0.25], "corner": "bottom_right", "size": 0.5},
}
BLUE, RED = (0, 0, 200), (200, 0, 0)


def scene() -> Image.Image:
    """Red, 120 x 80, with a blue quarter at the top left."""
    picture = Image.new("RGB", (120, 80), RED)
    picture.paste(BLUE, (0, 0, 60, 40))
    return picture


def done(op: str, seed: int = 0, **changed: object) -> Image.Image:
    plan = EditPlan.model_validate({"operations": [{"op": op, **STEPS[op], **changed}]})
    return apply(plan.operations, [scene(), Image.new("RGB", (40, 80), (0, 150, 0))], seed)


def test_every_operation_has_a_case_here():
    assert set(STEPS) == set(operation_names())


@pytest.mark.parametrize("op", STEPS)
def test_an_operation_makes_another_picture_the_same_each_time_and_leaves_its_own_alone(op):
    before = scene()
    pictures = [before, scene()]
    plan = EditPlan.model_validate({"operations": [{"op": op, **STEPS[op]}]})
    result = apply(plan.operations, pictures, 3)
    assert result.mode == "RGB"
    assert result.tobytes() != scene().tobytes()
    assert result.tobytes() == apply(plan.operations, pictures, 3).tobytes()
    assert before.tobytes() == scene().tobytes()


@pytest.mark.parametrize(("op", "size", "pixel", "colour"), [
    ("crop", (120, 80), (110, 70), BLUE), ("rotate", (80, 120), (5, 110), BLUE), ("flip", (120, 80), (110, 5), BLUE),
    ("brightness", (120, 80), (100, 60), (100, 0, 0)), ("redact", (120, 80), (100, 60), (0, 0, 0)),
    ("side_by_side", (164, 80), (150, 40), (0, 150, 0)), ("grid", (120, 164), (60, 120), (0, 150, 0)),
    ("inset", (120, 80), (110, 50), BLUE),
])  # fmt: skip
def test_an_operation_does_what_it_says(op, size, pixel, colour):
    result = done(op)
    assert result.size == size
    assert np.abs(np.subtract(result.getpixel(pixel), colour)).max() < 12


def test_noise_has_the_spread_that_was_asked_for_and_follows_the_seed():
    flat = [Image.new("RGB", (100, 100), (128, 128, 128))]
    noise = EditPlan.model_validate({"operations": [{"op": "noise", "sigma": 20}]}).operations
    assert abs(float(np.asarray(apply(noise, flat, 1), dtype=float).std()) - 20) < 1
    assert apply(noise, flat, 1).tobytes() != apply(noise, flat, 2).tobytes()


def test_steps_follow_each_other_and_large_results_are_scaled_down():
    plan = EditPlan.model_validate({"operations": [{"op": "flip"}, {"op": "crop", "box": [0.5, 0, 1, 0.5]}]})
    assert apply(plan.operations, [scene()], 0).getcolors() == [(60 * 40, BLUE)]
    huge = EditPlan.model_validate({"operations": [{"op": "crop", "box": [0, 0, 1, 1], "zoom": 8}]})
    width, height = apply(huge.operations, [Image.new("RGB", (1500, 600))], 0).size
    assert width * height <= MOST_PIXELS
    assert abs(width / height - 2.5) < 0.01


@pytest.mark.parametrize("step", [
    {"op": "shell"}, {"op": "rotate"}, {"op": "rotate", "degrees": 400}, {"op": "crop", "box": [0.5, 0, 0.2, 1]},
    {"op": "crop", "box": [0, 0, 2, 1]}, {"op": "noise", "sigma": 1e9}, {"op": "flip", "extra": 1},
    {"op": "label", "marks": [{"x": 0, "y": 0, "text": "x" * 100}]}, {"op": "redact", "boxes": []},
    {"op": "blur", "radius": "nan"},
])  # fmt: skip
def test_parameters_out_of_range_are_refused_before_anything_is_done(step):
    with pytest.raises(ValidationError):
        EditPlan.model_validate({"operations": [step]})


def test_a_plan_has_few_steps():
    with pytest.raises(ValidationError):
        EditPlan.model_validate({"operations": [{"op": "flip"}] * 5})


@pytest.mark.parametrize("op", ["side_by_side", "grid"])
def test_one_picture_cannot_be_arranged(op):
    plan = EditPlan.model_validate({"operations": [{"op": op}]})
    with pytest.raises(ValueError, match="only one picture"):
        apply(plan.operations, [scene()], 0)
