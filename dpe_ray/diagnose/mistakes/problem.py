"""What the teacher is asked: the item's options, or the right and the wrong answer alone where it has none."""

from dataclasses import dataclass

from dpe_ray.grading.extract import answer_span, extract_answer
from dpe_ray.grading.rules import normalise
from dpe_ray.types import AnswerKind, Graded, Sample


@dataclass(frozen=True)
class Problem:
    """A question with the options between which a teacher chooses."""

    id: str
    """Of the sample."""
    question: str
    options: tuple[str, ...]
    """[K] texts in order A, B, C, ..."""
    gold: int
    """Index of the right option."""
    wrong: int
    """Index of the one that the student chose."""

    def swapped(self) -> "Problem":
        """The same with the slots of gold and wrong exchanged."""
        options = list(self.options)
        options[self.gold], options[self.wrong] = options[self.wrong], options[self.gold]
        return Problem(self.id, self.question, tuple(options), self.wrong, self.gold)


def problem_of(graded: Graded) -> Problem | None:
    """Make the problem of a wrong answer; None when no wrong answer can be read from the text.

    An open-ended item becomes a choice between the right answer and what the student said.
    """
    sample = graded.sample
    said = student_answer(sample, graded.text)
    if said is None or normalise(said) == normalise(sample.answer.value):
        return None
    if sample.answer.kind is AnswerKind.CHOICE:
        gold, wrong = (sample.letters.index(letter) for letter in (sample.answer.value, said))
        return Problem(sample.id, sample.question, sample.options, gold, wrong)
    return Problem(sample.id, sample.question, (sample.answer.value, said), 0, 1)


def student_answer(sample: Sample, text: str) -> str | None:
    """What a text answers: the letter of an option, whether it names it or says its words; else the words, or None."""
    said = extract_answer(text, sample.answer.kind, sample.letters)
    if said is not None or sample.answer.kind is not AnswerKind.CHOICE:
        return said
    words = normalise(answer_span(text) or "")
    named = [
        letter for letter, option in zip(sample.letters, sample.options, strict=True) if normalise(option) == words
    ]
    return named[0] if words and len(named) == 1 else None
