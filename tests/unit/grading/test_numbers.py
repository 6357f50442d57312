import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.grading.number_words import in_digits
from dpe_ray.grading.numbers import only_number, parse_number, quantity, unit_of


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("twenty-five", "25"),
        ("Sixteen", "16"),
        ("two hundred", "200"),
        ("a hundred and five", "105"),
        ("two hundred and five thousand, three hundred and one", "205301"),
        ("one million two thousand", "1002000"),
        ("minus five", "-5"),
        ("negative 3.5", "-3.5"),
        ("two or three", "2 or 3"),
        ("one million two million", "one million two million"),
        ("half a million", "half a million"),
        ("a dozen", "a dozen"),
        ("a man", "a man"),
        ("someone often", "someone often"),
    ],
)
def test_numbers_in_words_become_digits_where_english_writes_them_in_one_way(words: str, digits: str) -> None:
    assert in_digits(words) == digits


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.5 million", 2_500_000),
        ("2,500 thousand", 2_500_000),
        ("1 1/2 million", 1_500_000),
        ("-3 hundred", -300),
        ("minus 5", -5),
        ("forty-two", 42),
    ],
)
def test_a_scale_multiplies_the_number_before_it(text: str, value: float) -> None:
    number = parse_number(only_number(text) or "")
    assert number is not None
    assert number.value == value


@pytest.mark.parametrize("text", ["10 minus 3", "2 million 3 thousand", "half a million", "nineteen eighty-four"])
def test_what_is_no_single_number_gives_none(text: str) -> None:
    assert only_number(text) is None


@pytest.mark.parametrize(
    ("text", "unit"), [("3 cm", "cm"), ("3cm", "cm"), ("$5", "$"), ("5k", "k"), ("about 5", ""), ("5, or so", "")]
)
def test_the_unit_is_the_word_directly_behind_the_number(text: str, unit: str) -> None:
    assert unit_of(text) == unit


def test_a_quantity_begins_with_its_number() -> None:
    found = quantity("2.5 million euros")
    assert found is not None
    assert (found.number.value, found.unit) == (2_500_000, "euros")
    assert quantity("the 5") is None


@given(st.integers(0, 999_999))
def test_any_number_below_a_million_survives_being_spelt(value: int) -> None:
    assert in_digits(_spelt(value)) == str(value)


def _spelt(value: int) -> str:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    words = [*small.split(), "seventeen", "eighteen", "nineteen"]
    if value < len(words):
        return words[value]
    if value < 100:
        tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"][value // 10 - 2]
        return f"{tens}-{words[value % 10]}" if value % 10 else tens
    scale, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" {'and ' if value % scale < 100 else ''}{_spelt(value % scale)}" if value % scale else ""
    return f"{_spelt(value // scale)} {name}{rest}"
