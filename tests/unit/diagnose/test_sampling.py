from random import Random

import pytest
from builders import FakeChat, make_sample, silent_chat

from dpe_ray.diagnose.sampling import Draws, agreement, draw_answers, learnability, spoken_answer
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.types import Sample

CHOICE = make_sample("Which?", "B", options=("red", "blue", "green"))
NUMBER = make_sample("How many?", "12", kind="number")


def draws(sample: Sample, *answers: str) -> Draws:
    return Draws(sample, tuple(f"1. look\nanswer: {answer}" for answer in answers))


@pytest.mark.parametrize(
    ("sample", "text", "spoken"),
    [
        (CHOICE, "answer: B", "blue"),
        (CHOICE, "answer: Blue.", "blue"),
        (CHOICE, "answer: yellow", ""),
        (NUMBER, "answer: 12.0", "12"),
        (NUMBER, "answer: twelve", "12"),
        (NUMBER, "no idea at all, it is really hard to say", ""),
        (make_sample(), "answer: the Red cup", "red cup"),
    ],
)
def test_answers_are_brought_into_one_form(sample: Sample, text: str, spoken: str) -> None:
    assert spoken_answer(sample, text) == spoken


async def test_every_item_is_drawn_k_times_in_one_seeded_call() -> None:
    student = FakeChat(lambda r: ["answer: A", "answer: B", "answer: B", "answer: C"])
    drawn = await draw_answers(
        [CHOICE, NUMBER], student, LocalMapper(), k=4, max_tokens=9, seed=3, workers=(1, 1), concurrency=2
    )
    assert drawn[CHOICE.id].hits == (False, True, True, False)
    assert drawn[CHOICE.id].answers == ("red", "blue", "blue", "green")
    assert {(r.n, r.temperature, r.top_p) for r in student.requests} == {(4, 1.0, 1.0)}
    assert len({r.seed for r in student.requests}) == 2


async def test_an_outage_leaves_the_item_out() -> None:
    drawn = await draw_answers(
        [CHOICE], silent_chat(), LocalMapper(), k=4, max_tokens=9, seed=3, workers=(1, 1), concurrency=2
    )
    assert drawn == {}


def test_learnability_is_the_unbiased_variance_averaged_over_items() -> None:
    half = draws(CHOICE, *"BBBBAAAA")
    never, always = draws(CHOICE, *"AAAAAAAA"), draws(CHOICE, *"BBBBBBBB")
    assert learnability([half]) == pytest.approx(8 / 7 * 0.25)
    assert learnability([half, never, always]) == pytest.approx(8 / 7 * 0.25 / 3)
    assert learnability([never]) == 0


def test_learnability_wants_four_answers() -> None:
    assert learnability([draws(CHOICE, *"BAB")]) is None
    assert learnability([draws(CHOICE, *"BAB"), draws(CHOICE, *"BABA")]) == pytest.approx(1 / 3)


def test_learnability_has_the_right_mean_over_many_draws() -> None:
    rng = Random(0)
    values = [
        learnability([draws(CHOICE, *("B" if rng.random() < 0.3 else "A" for _ in range(4)))]) for _ in range(3000)
    ]
    assert sum(value for value in values if value is not None) / len(values) == pytest.approx(0.21, abs=0.01)


def test_agreement_equals_the_hand_computed_kappa() -> None:
    # within: 1 and 1/3; between: of 3 x 4 pairs, A meets A 3 x 2 times
    two = [draws(CHOICE, *"AAA"), draws(CHOICE, *"AABB")]
    within, between = (1 + (2 + 2) / 12) / 2, 6 / 12
    assert agreement(two) == pytest.approx((within - between) / (1 - between))


def test_agreement_is_one_for_fixed_answers_and_about_zero_for_blind_guesses() -> None:
    assert agreement([draws(CHOICE, *"AAAA"), draws(CHOICE, *"BBBB")]) == 1
    rng = Random(0)
    blind = [draws(NUMBER, *(str(rng.randint(1, 6)) for _ in range(8))) for _ in range(400)]
    assert agreement(blind) == pytest.approx(0, abs=0.02)


def test_agreement_cannot_be_measured_on_one_item_or_one_answer_for_all() -> None:
    assert agreement([draws(CHOICE, *"AABB")]) is None
    assert agreement([draws(CHOICE, *"AA"), draws(CHOICE, *"AA")]) is None
