"""Grading by rule: exact, free, the same for diagnosis, gates, rewards and evaluation."""

import re
from collections.abc import Callable

from dpe_ray.grading.extract import answer_span, extract_answer, plain_text
from dpe_ray.grading.numbers import WORDS, only_number, parse_number
from dpe_ray.types import AnswerKind, Sample, Verdict, VerdictKind

UNDECIDED = "undecidable by rule"
"""Begins the reason of a `wrong` that a judge may overturn."""
LONG_PHRASE = 3
"""Words from which two texts without a common word may still mean the same."""


def grade(sample: Sample, text: str) -> Verdict:
    """Compare what a completion answers with the reference, by the kind of the answer.

    `unparsable` when it gives no answer of that kind. Text that neither equals the reference nor clearly differs is
    `wrong` with a reason that `needs_judge` recognises: without a judge only equality counts.
    """
    return _RULES[sample.answer.kind](sample, text)


def needs_judge(verdict: Verdict) -> bool:
    """Tell a `wrong` that rules could not really decide from one that they could."""
    return verdict.kind is VerdictKind.WRONG and verdict.reason.startswith(UNDECIDED)


def is_right_answer(sample: Sample, answer: str) -> bool:
    """Whether a bare answer such as `B`, `12` or `red`, without any text around it, equals the reference by rule."""
    return grade(sample, f"answer: {answer}").correct


def chosen_letter(sample: Sample, text: str) -> str | None:
    """The option that a completion chooses, by its letter or by the text of just one; None when it chooses none."""
    letter = extract_answer(text, AnswerKind.CHOICE, sample.letters)
    return letter or _letter_of_option(sample, answer_span(text, sample.letters) or "")


def normalise(text: str) -> str:
    """Lower case, number words as digits, without articles, punctuation and double spaces."""
    words = re.findall(r"[^\W_]+(?:[.,'][^\W_]+)*|[%+-](?=\d)|%", plain_text(text).casefold())
    words = [WORDS.get(word, word) for word in words]
    return " ".join(words if len(words) == 1 else [word for word in words if word not in ("a", "an", "the")])


def _choice(sample: Sample, text: str) -> Verdict:
    letter = chosen_letter(sample, text)
    if letter is None:
        return Verdict(VerdictKind.UNPARSABLE, "choice@1", f"no single letter of {sample.letters} in the answer")
    return _verdict(letter == sample.answer.value.strip().upper(), "choice@1", letter, sample)


def _number(sample: Sample, text: str) -> Verdict:
    said = extract_answer(text, AnswerKind.NUMBER)
    number = parse_number(said) if said is not None else None
    if number is None:
        return Verdict(VerdictKind.UNPARSABLE, "number@1", "no single number in the answer")
    wanted = [parse_number(only_number(v) or "") for v in (sample.answer.value, *sample.answer.aliases)]
    right = any(w is not None and number.equals(w, sample.answer.tolerance) for w in wanted)
    return _verdict(right, "number@1", str(said), sample)


def _text(sample: Sample, text: str) -> Verdict:
    said = extract_answer(text, AnswerKind.TEXT)
    if said is None or not normalise(said):
        return Verdict(VerdictKind.UNPARSABLE, "text@1", "no words in the answer")
    wanted = [normalise(value) for value in (sample.answer.value, *sample.answer.aliases)]
    if normalise(said) in wanted:
        return _verdict(True, "text@1", said, sample)
    if any(_may_mean_the_same(normalise(said).split(), value.split()) for value in wanted):
        return Verdict(VerdictKind.WRONG, "text@1", f"{UNDECIDED}: {said[:80]!r} for {sample.answer.value!r}")
    return _verdict(False, "text@1", said, sample)


def _verdict(right: bool, grader: str, said: str, sample: Sample) -> Verdict:
    if right:
        return Verdict(VerdictKind.CORRECT, grader)
    return Verdict(VerdictKind.WRONG, grader, f"{said[:80]!r} is not {sample.answer.value!r}")


def _letter_of_option(sample: Sample, said: str) -> str | None:
    """Find the letter of the one option whose text is the answer."""
    hits = [
        letter
        for letter, option in zip(sample.letters, sample.options, strict=True)
        if normalise(option) == normalise(said) != ""
    ]
    return hits[0] if len(hits) == 1 else None


def _may_mean_the_same(said: list[str], wanted: list[str]) -> bool:
    if len(said) == len(wanted) == 1:
        return False
    return bool(set(said) & set(wanted)) or max(len(said), len(wanted)) >= LONG_PHRASE


_RULES: dict[AnswerKind, Callable[[Sample, str], Verdict]] = {
    AnswerKind.CHOICE: _choice,
    AnswerKind.NUMBER: _number,
    AnswerKind.TEXT: _text,
}
