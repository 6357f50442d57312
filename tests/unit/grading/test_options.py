from collections import Counter

import pytest
from builders import make_sample

from dpe_ray.grading.options import rotated, spread_answers

OPTIONS = ("fish", "cup", "lamp", "key")


def choice(letter):
    return make_sample(answer=letter, kind="choice", options=OPTIONS)


def right_text(sample):
    return sample.options[sample.letters.index(sample.answer.value)]


@pytest.mark.parametrize("letter", "ABCD")
@pytest.mark.parametrize("place", range(6))
def test_rotation_moves_the_right_option_and_keeps_all(letter, place):
    before = choice(letter)
    after = rotated(before, place)
    assert after.answer.value == "ABCD"[place % 4]
    assert right_text(after) == right_text(before)
    assert sorted(after.options) == sorted(OPTIONS)


def test_every_letter_is_right_equally_often():
    spread = spread_answers([choice("B") for _ in range(8)])
    assert Counter(s.answer.value for s in spread) == dict.fromkeys("ABCD", 2)


def test_other_kinds_stay_as_they_are():
    sample = make_sample(answer="3", kind="number")
    assert spread_answers([sample]) == [sample]


@pytest.mark.parametrize("option", ["All of the above", "both A and C", "None of these options", "B or D"])
def test_options_that_speak_of_each_other_keep_their_order(option):
    sample = make_sample(answer="B", kind="choice", options=("fish", "cup", "lamp", option))
    assert spread_answers([sample, sample]) == [sample, sample]
