import pytest
from builders import make_sample

from dpe_ray.diagnose.usable import entities, refusal

ITEM = make_sample(
    'Which river runs past the house that Anna Weber painted in 1889, below the sign "Zum Anker"?',
    "B",
    options=("the Isar", "the Danube", "the Rhine"),
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("find the Danube on a map", "leak"),
        ("recognise paintings by Anna Weber", "entity"),
        ("date pictures to 1889", "entity"),
        ("read the sign Zum Anker", "entity"),
        ("image understanding", "generic"),
        ("general visual reasoning", "generic"),
        ("??", "generic"),
        (" ".join(["word"] * 16), "long"),
        ("follow a river past buildings", ""),
        ("spatial reasoning", ""),
        (" ".join(["word"] * 15), ""),
    ],
)
def test_skills_that_leak_name_or_say_nothing_are_refused_with_the_reason(said: str, reason: str) -> None:
    told = refusal(said, ITEM)
    assert told.split(":")[0] == reason
    assert (not told) == (not reason)


def test_a_known_skill_passes_whatever_the_answer_is() -> None:
    item = make_sample("What time is it?", "A", options=("day", "night"))
    assert refusal("Time of day", item).startswith("leak")
    assert refusal("Time of day", item, known=("time_of_day",)) == ""


def test_another_option_than_the_answers_is_no_leak() -> None:
    item = make_sample("What time is it?", "B", options=("day", "night"))
    assert refusal("tell the time of day", item) == ""


@pytest.mark.parametrize("answer", ["yes", "no", "left"])
def test_everyday_answers_cannot_leak(answer: str) -> None:
    assert refusal("tell whether no object stands left of another, yes or no", make_sample("Is it?", answer)) == ""


def test_an_alternative_that_the_question_offers_is_no_leak() -> None:
    item = make_sample("Is the result odd or even?", "odd")
    assert refusal("say whether a result is odd or even", item) == ""


def test_entities_are_found_by_form_and_titles_have_none() -> None:
    assert {"Anna", "Weber", "Zum Anker", "1889"} <= set(entities(ITEM))
    assert entities(make_sample("The Biggest City Of The Old North?", "Rome")) == ()
    assert entities(make_sample("Which 3D shape is it? The cube at b3?", "cube")) == ("b3",)
