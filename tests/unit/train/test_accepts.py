"""What each trainer refuses."""

import pytest

from dpe_ray.errors import TrainingError
from dpe_ray.train.accepts import refusal, usable
from dpe_ray.types import Answer, AnswerKind, Prompt, Sample


def asked(samples: list[Sample]) -> list[Prompt]:
    return [Prompt(sample, sample.question) for sample in samples]


def sample(
    value: str, kind: AnswerKind = AnswerKind.TEXT, rationale: str = "", options: tuple[str, ...] = ()
) -> Sample:
    return Sample((), "Which?", Answer(kind, value), options=options, rationale=rationale)


GOOD = [
    sample("red"),
    sample("2", AnswerKind.NUMBER),
    sample("B", AnswerKind.CHOICE, options=("red", "blue")),
    sample("green", rationale="1. It is green.\nanswer: green"),
]


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_sound_samples_are_taken_by_both(stage: str) -> None:
    assert usable(stage, asked(GOOD)) == (asked(GOOD), {})


@pytest.mark.parametrize(
    ("stage", "bad", "reason"),
    [
        ("sft", sample(" "), "no answer"),
        ("sft", sample("C", AnswerKind.CHOICE, options=("red", "blue")), "no letter"),
        ("sft", sample("red", rationale="1. It is blue.\nanswer: blue"), "another answer"),
        ("grpo", sample("a man in a red coat walks along the street"), "words cannot be checked"),
        ("grpo", sample("many", AnswerKind.NUMBER), "grader"),
        ("grpo", sample("C", AnswerKind.CHOICE, options=("red", "blue")), "grader"),
    ],
)
def test_an_unsuitable_sample_is_refused_with_its_reason(stage: str, bad: Sample, reason: str) -> None:
    said = refusal(stage, bad)
    assert said.startswith(f"{stage}: ")
    assert reason in said
    assert usable(stage, asked([*GOOD, bad, bad])) == (asked(GOOD), {said: 2})


def test_a_caption_can_be_learned_by_example_but_not_rewarded() -> None:
    caption = sample("a man in a red coat walks along the street")
    assert not refusal("sft", caption)
    assert refusal("grpo", caption)


def test_nothing_left_is_one_error_with_the_reasons() -> None:
    with pytest.raises(TrainingError, match=r"none of 2 samples.*2 x sft: no answer"):
        usable("sft", asked([sample(""), sample(" ")]))
    with pytest.raises(TrainingError, match="no samples"):
        usable("grpo", [])
