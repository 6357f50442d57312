import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.grading.extract import extract_answer
from dpe_ray.grading.ruled_out import left_over, ruled_out
from dpe_ray.types import AnswerKind

ONE_REFUSED = (
    "{0} is wrong",
    "Option {0} is wrong",
    "({0}) is incorrect",
    "{0} is not correct",
    "{0} isn't right",
    "{0} cannot be the answer",
    "{0} does not fit",
    "option {0} can be ruled out",
    "not {0}",
    "Not option {0}",
    "It is not {0}",
    "rule out {0}",
    "Excluding {0}",
    "The answer is not {0}",
    "The wrong answer is {0}",
    "I would not choose option {0}",
)
TWO_REFUSED = (
    "{0} and {1} are wrong",
    "{0}, {1} are incorrect",
    "Options {0} and {1} cannot be right",
    "Neither {0} nor {1}",
    "Neither {0} nor {1} is right",
    "Rule out {0} and {1}",
    "I have eliminated both {0} and {1}",
    "{0} is wrong and so is {1}",
)
CONCLUDED = (
    "so {}",
    "therefore {}",
    "hence ({})",
    "so it must be {}",
    "leaving {}",
    "thus option {}",
    "the answer is {}",
)
LETTERS = st.permutations("ABCD")


@given(LETTERS, st.sampled_from(ONE_REFUSED + TWO_REFUSED), st.sampled_from(["", "answer: ", "I looked.\n"]))
def test_a_refused_letter_alone_is_no_answer(letters: list[str], sentence: str, before: str) -> None:
    assert extract_answer(before + sentence.format(*letters), AnswerKind.CHOICE, "ABCD") is None


@given(
    LETTERS, st.sampled_from(ONE_REFUSED + TWO_REFUSED), st.sampled_from(CONCLUDED), st.sampled_from([", ", "; ", ". "])
)
def test_what_a_sentence_concludes_is_the_answer_and_not_what_it_refuses(
    letters: list[str], sentence: str, conclusion: str, between: str
) -> None:
    text = sentence.format(*letters) + between + conclusion.format(letters[3])
    assert extract_answer(text, AnswerKind.CHOICE, "ABCD") == letters[3]


@given(LETTERS, st.sampled_from(ONE_REFUSED[:7]), st.sampled_from(["since", "because", "as"]))
def test_an_answer_that_says_why_others_are_wrong_stays(letters: list[str], sentence: str, word: str) -> None:
    refused = sentence.format(letters[0])
    assert extract_answer(f"answer: {letters[3]}, {word} {refused}", AnswerKind.CHOICE, "ABCD") == letters[3]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Rule out A and C, therefore D", "D"),
        ("A, B and C are wrong, D", "D"),
        ("answer: B, A is wrong", "B"),
        ("answer: A, and B is wrong", "A"),
        ("Correct answer: B. Wrong answer: A", "B"),
        ("B rather than A", "B"),
        ("The correct answer is not A, B or C but D.", "D"),
        ("I don't think the answer is A, I think B", None),
        ("A is wrong but so is B", None),
        ("answer: A is false", None),
        ("C. Cannot be determined.", "C"),
        ("B. False", "B"),
        ("I cannot see\nanswer: B", "B"),
        ("answer: A is the tallest", "A"),
        ("All but A", None),
        ("Everything except A", None),
        ("It can be anything but A", None),
        ("It cannot be anything but B", "B"),
        ("It can't be anything but option B.", "B"),
        ("All options are wrong except B", "B"),
        ("All of them can be ruled out except (B).", "B"),
        ("None except B", "B"),
        ("None of the options fits except B", "B"),
        ("All but B are wrong", "B"),
        ("All except B can be eliminated", "B"),
        ("answer: All options are wrong except B", "B"),
        ("All are wrong except A and B", None),
        ("All options are correct except B", None),
        ("All but B are correct", None),
        ("A is not right, all but C fit", None),
    ],
)
def test_sentences_that_refuse_letters_are_read_by_their_sense(text: str, letter: str | None) -> None:
    assert extract_answer(text, AnswerKind.CHOICE, "ABCD") == letter


def test_an_article_is_no_letter_that_is_left_over() -> None:
    assert left_over("B is wrong, it shows A dog", "ABCD") is None
    assert ruled_out("A man is not right") == frozenset()
