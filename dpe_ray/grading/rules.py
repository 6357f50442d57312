"""Grading by rule: exact, free, the same for diagnosis, gates, rewards and evaluation."""

import re
from collections.abc import Callable
from difflib import SequenceMatcher

from dpe_ray.grading.extract import answer_span, extract_answer, plain_text
from dpe_ray.grading.number_words import in_digits
from dpe_ray.grading.numbers import only_number, parse_number, quantity, unit_of
from dpe_ray.grading.units import measure, spoken_of
from dpe_ray.types import AnswerKind, Sample, Verdict, VerdictKind

UNDECIDED = "undecidable by rule"
"""Begins the reason of a `wrong` that a judge may overturn."""
LONG_PHRASE = 3
"""Words from which two texts without a common word may still mean the same."""
SAME_SPELLING = 0.75
"""Share of equal letters from which two words may be one, spelt otherwise: `grey` and `gray`, `dog` and `dogs`."""

_PERCENT = re.compile(r"(?<=\d)\s*(?:percent|per cent)\b")
_VAGUE = re.compile(
    r"\b(?:half|halves|thirds?|quarters?|dozens?|pairs?|couple|none|nothing|tens|lakhs?|crores?"
    r"|(?:fif|six|seven|eigh|nin|ten|hundred|thousand|million|billion)ths?|(?:hundred|thousand|million|billion)s)\b",
    re.IGNORECASE,
)
"""Number words that only their sentence tells the value of."""


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
    plain = _PERCENT.sub("%", in_digits(plain_text(text).casefold()))
    words = re.findall(r"[^\W_]+(?:[.,'][^\W_]+)*|[%+-](?=\d)|%", plain)
    return " ".join(words if len(words) == 1 else [word for word in words if word not in ("a", "an", "the")])


def _choice(sample: Sample, text: str) -> Verdict:
    letter = chosen_letter(sample, text)
    if letter is None:
        return Verdict(VerdictKind.UNPARSABLE, "choice@2", f"no single letter of {sample.letters} in the answer")
    return _verdict(letter == sample.answer.value.strip().upper(), "choice@2", letter, sample)


def _number(sample: Sample, text: str) -> Verdict:
    place = answer_span(text) or ""
    number = parse_number(only_number(place) or "")
    wanted = [parse_number(only_number(v) or "") for v in (sample.answer.value, *sample.answer.aliases)]
    equal = number is not None and any(w is not None and number.equals(w, sample.answer.tolerance) for w in wanted)
    if equal and not _may_be_another(place, sample):
        return Verdict(VerdictKind.CORRECT, "number@2")
    if equal or _VAGUE.search(place) or (number is not None and _may_be_converted(unit_of(place), sample)):
        return _undecided("number@2", place, sample)
    if number is None:
        return Verdict(VerdictKind.UNPARSABLE, "number@2", "no single number in the answer")
    return _verdict(False, "number@2", str(only_number(place)), sample)


def _text(sample: Sample, text: str) -> Verdict:
    said = extract_answer(text, AnswerKind.TEXT)
    if said is None or not normalise(said):
        return Verdict(VerdictKind.UNPARSABLE, "text@2", "no words in the answer")
    wanted = [plain_text(value) for value in (sample.answer.value, *sample.answer.aliases)]
    if any(normalise(said) == normalise(value) or _same_quantity(said, value) for value in wanted):
        return _verdict(True, "text@2", said, sample)
    if any(_may_mean_the_same(said, value) for value in wanted):
        return _undecided("text@2", said, sample)
    return _verdict(False, "text@2", said, sample)


def _undecided(grader: str, said: str, sample: Sample) -> Verdict:
    return Verdict(VerdictKind.WRONG, grader, f"{UNDECIDED}: {said[:80]!r} for {sample.answer.value!r}")


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


def _may_be_another(place: str, sample: Sample) -> bool:
    """Whether words around an equal number may make it another, unless they are asked for: `2 dozen`, `3 m` for 3."""
    unit, asked = unit_of(place), _asked(sample)
    vague = any(not spoken_of(word, asked) for word in _VAGUE.findall(place))
    return vague or (measure(unit) != "" and not spoken_of(unit, asked))


def _may_be_converted(unit: str, sample: Sample) -> bool:
    """Whether the number is counted in something that neither question nor reference speaks of: `3 m` for 300 cm."""
    return unit != "" and not spoken_of(unit, _asked(sample))


def _asked(sample: Sample) -> str:
    return f"{sample.question} {sample.answer.value} {' '.join(sample.answer.aliases)}"


def _same_quantity(said: str, wanted: str) -> bool:
    """Whether two texts state one number of the same: `3cm` and `3 cm`, `2.5 million` and `2,500,000`."""
    one, other = quantity(said), quantity(wanted)
    if one is None or other is None or one.number.percent != other.number.percent:
        return False
    return one.number.equals(other.number) and normalise(one.unit) == normalise(other.unit)


def _may_mean_the_same(said: str, wanted: str) -> bool:
    words, others = normalise(said).split(), normalise(wanted).split()
    if set(words) & set(others) or "".join(words) == "".join(others):
        return True
    one, other = quantity(said), quantity(wanted)
    if one and other:
        return normalise(one.unit) != normalise(other.unit)
    if len(words) == len(others) == 1:
        return _may_be_one_word(words[0], others[0])
    return max(len(words), len(others)) >= LONG_PHRASE


def _may_be_one_word(word: str, other: str) -> bool:
    if not (word.isalpha() and other.isalpha()):
        return bool(_VAGUE.search(f"{word} {other}"))
    return word[0] == other[0] and SequenceMatcher(None, word, other).ratio() >= SAME_SPELLING


_RULES: dict[AnswerKind, Callable[[Sample, str], Verdict]] = {
    AnswerKind.CHOICE: _choice,
    AnswerKind.NUMBER: _number,
    AnswerKind.TEXT: _text,
}
