from builders import make_sample

from dpe_ray.diagnose.sampling import Draws
from dpe_ray.diagnose.votes import GRADER, vote
from dpe_ray.types import Graded, Sample, VerdictKind

CHOICE = make_sample("Which?", "A", options=("red", "blue", "green"))


def voted(*answers: str, sample: Sample = CHOICE, least: float = 0.75) -> Graded:
    drawn = Draws(sample, tuple(f"1. look\nanswer: {answer}" if answer else "well" * 40 for answer in answers))
    (graded,) = vote([sample], {sample.id: drawn}, least)
    return graded


def test_the_majority_stands_in_for_the_reference_whatever_that_is() -> None:
    graded = voted(*"BBBC")
    assert (graded.sample.answer.value, graded.verdict.kind, graded.verdict.grader) == (
        "B",
        VerdictKind.CORRECT,
        GRADER,
    )
    assert graded.text.endswith("answer: B")
    assert graded.verdict.reason == "3 of 4 answers agree"


def test_an_item_below_the_share_is_hard_and_shows_an_answer_that_deviates() -> None:
    graded = voted(*"BBBC", least=0.8)
    assert graded.verdict.kind is VerdictKind.WRONG
    assert graded.sample.answer.value == "B"
    assert graded.text.endswith("answer: C")


def test_ties_are_broken_by_the_alphabet_and_numbers_vote_by_value() -> None:
    assert voted(*"ABAB", least=0.5).sample.answer.value == "B"  # blue before red
    number = make_sample("How many?", "0", kind="number")
    assert voted("7", "7.0", "seven", "8", sample=number).sample.answer.value == "7"


def test_unreadable_answers_vote_for_nobody_but_count() -> None:
    assert voted("B", "B", "", "").verdict.kind is VerdictKind.WRONG
    nothing = voted("", "", "")
    assert nothing.verdict.kind is VerdictKind.UNPARSABLE
    assert nothing.sample == CHOICE


def test_an_item_without_draws_is_not_judged() -> None:
    (graded,) = vote([CHOICE], {}, 0.75)
    assert not graded.verdict.judged
