import pytest

from dpe_ray.grading.lettered import split_options


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        (
            "Which?\nA. one\nB. two\nAnswer with the option's letter from the given choices directly.",
            "Which?",
            "one two",
        ),
        ("Which?\n(A) one\n(B) two", "Which?", "one two"),
        ("Which?\nOptions:\n(a) one\n(b) two", "Which?", "one two"),
        ("Which?\nOptions: (a) one (b) two |", "Which?", "one two"),
        ("Which?\nOptions: A: one, B: two, C: three", "Which?", "one two three"),
        ("Which? There are several options:\nA. one\nB. two\n", "Which?", "one two"),
        ("Read.\nA. Smith wrote it.\nWho did?", "Read.\nA. Smith wrote it.\nWho did?", ""),
        ("Which?\nA. one\nand more of it\nB. two", "Which?\nA. one\nand more of it\nB. two", ""),
        ("Which?\nB. one\nC. two", "Which?\nB. one\nC. two", ""),
    ],
)
def test_only_options_that_run_from_a_are_taken_out_of_a_question(text: str, question: str, options: str) -> None:
    assert split_options(text) == (question, tuple(options.split()))
