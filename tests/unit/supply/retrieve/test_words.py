import pytest

from dpe_ray.supply.retrieve.words import tokenise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Counting the objects", ["count", "object"]),
        ("shape_colour, bar-chart!", ["shape", "colour", "bar", "chart"]),
        ("Is A above or below B?", ["abov", "below", "b"]),
        ("the same, more 12 than MOST", ["same", "more", "12", "than", "most"]),
        ("of the", []),
        ("", []),
    ],
)
def test_words_are_lower_case_stems_without_stop_words(text, words):
    assert tokenise(text) == words


def test_forms_of_a_word_are_one_word():
    assert tokenise("compare compared comparing compares") == ["compar"] * 4
