import numpy as np
import pytest
from PIL import Image, ImageDraw

from dpe_ray.supply.construct import measure
from dpe_ray.supply.construct.drawing import BLACK, COLOURS, blank, write
from dpe_ray.supply.construct.task import Unsettled

RED = COLOURS["red"]


@pytest.mark.parametrize("number", [0, 7, 10, 11, 17, 71, 111, 1234, 5678, 9090, 8888, -1, -999, -40])
def test_written_numbers_are_read(number):
    picture, draw = blank(116, 34)
    write(draw, (58, 17), str(number), 18)
    assert measure.read_number(np.asarray(picture), 18) == number


@pytest.mark.parametrize("text", ["", "Q", "?", "--"])
def test_what_is_no_number_is_not_read(text):
    picture, draw = blank(116, 34)
    write(draw, (58, 17), text, 18)
    with pytest.raises(Unsettled):
        measure.read_number(np.asarray(picture), 18)


def test_pieces_of_one_colour_are_found_from_left_to_right():
    picture, draw = blank(100, 60)
    draw.rectangle((60, 10, 79, 29), RED)
    draw.ellipse((10, 20, 30, 40), RED)
    draw.point((90, 50), RED)
    round_one, square = measure.blobs(measure.where(np.asarray(picture), RED))
    assert (square.left, square.top, square.right, square.bottom, square.fill) == (60, 10, 79, 29, 1.0)
    assert (round(round_one.x), round(round_one.y)) == (20, 30)
    assert 0.7 < round_one.fill < 0.85


def test_a_nearly_equal_colour_is_another():
    picture = Image.new("RGB", (20, 20), (RED[0], RED[1], RED[2] + 1))
    assert not measure.where(np.asarray(picture), RED).any()


def test_thick_lines_count_once_at_their_middle():
    picture = Image.new("RGB", (50, 50), "white")
    ImageDraw.Draw(picture).line((0, 20, 49, 20), BLACK, 5)
    ImageDraw.Draw(picture).line((0, 40, 10, 40), BLACK, 5)
    assert measure.lines(measure.where(np.asarray(picture), BLACK), 1, 0.5) == [20]


@pytest.mark.parametrize(("value", "rounded"), [(3.1, 3), (2.8, 3), (-0.2, 0)])
def test_measures_near_a_whole_number_are_rounded(value, rounded):
    assert measure.whole(value, "it") == rounded


def test_a_measure_between_two_numbers_settles_nothing():
    with pytest.raises(Unsettled, match=r"it measures 2\.50"):
        measure.whole(2.5, "it")


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_pieces_than_one_settles_nothing(count):
    with pytest.raises(Unsettled):
        measure.only([measure.Blob(0, 0, 1, 1, 4, 0.5, 0.5)] * count, "a dot")
