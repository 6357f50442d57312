"""Gates of supply: pure checks of a drafted sample. Each gives None, or in one sentence why it refuses."""

import re
from collections.abc import Container

from dpe_ray.grading.rules import is_right_answer
from dpe_ray.taxonomy import known_name
from dpe_ray.types import AnswerKind, Sample, content_id

OPTIONS = (2, 10)
"""Fewest and most options of a choice question."""

DUPLICATE = "the same question about this image is there already"
"""Why a sample is refused whose `sample_key` was accepted before."""

_OFFERED_BEFORE = re.compile(r"\bor(\s+\w+){0,3}\s*$")
_OFFERED_BEHIND = re.compile(r"^\s*,?\s*or\b")
_TOLD = re.compile(r"\b(?:answer|solution)\s*(?:is|:|=)\s*$")


def check_format(sample: Sample) -> str | None:
    """Check that a rule can grade question, options and answer."""
    if not sample.question.strip():
        return "the question is empty"
    if not sample.answer.value.strip():
        return "the answer is empty"
    if sample.answer.kind is AnswerKind.CHOICE:
        return _check_options(sample)
    if sample.options:
        return f"a {sample.answer.kind} question has no options"
    if not is_right_answer(sample, sample.answer.value):
        return f"no rule can grade {sample.answer.value!r} as a {sample.answer.kind}"
    return None


def check_category(found: str, wanted: str) -> str | None:
    """Compare the category that the image itself shows with the cell's, whatever was planned for it.

    As canonical names: `Chart / Graph` is chart_graph.
    """
    if known_name(found, [wanted]):
        return None
    return f"the image is {found or 'nothing known'}, the cell wants {wanted}"


def check_leak(sample: Sample) -> str | None:
    """Look for the answer in the question.

    An alternative that the question offers (`left or right?`) is no leak. A number is one only where it is told as the
    answer: the same number may stand in the question by chance. Of a choice the text of the right option counts.
    """
    question = normalise(sample.question)
    answer = normalise(_answer_text(sample))
    if not answer:
        return None
    for found in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", question):
        before, behind = question[: found.start()], question[found.end() :]
        if _TOLD.search(before):
            return f"the question tells its answer {answer!r}"
        offered = _OFFERED_BEFORE.search(before) or _OFFERED_BEHIND.search(behind)
        if not offered and sample.answer.kind is not AnswerKind.NUMBER:
            return f"the answer {answer!r} stands in the question"
    return None


def check_seen(sample: Sample, seen: Container[str]) -> str | None:
    """Refuse the same question about the same image, over all rounds; `seen` holds `sample_key`s."""
    return DUPLICATE if sample_key(sample) in seen else None


def band_of(cell: str, band: tuple[float, float], by_example: Container[str]) -> tuple[float, float]:
    """The band of a cell: without a lower end where training shows completions of what is never got right."""
    return (0.0, band[1]) if cell in by_example else band


def check_pass_rate(rate: float, band: tuple[float, float], num_options: int = 0) -> str | None:
    """Keep what the student passes sometimes: the rate, 0-1, must lie in the band, ends included.

    With options it is first corrected for guessing, (p - 1/k) / (1 - 1/k): a pure guesser among four passes an
    uncorrected 3..7-of-9 band with probability .40.
    """
    able = corrected_rate(rate, num_options)
    low, high = band
    if low - 1e-9 <= able <= high + 1e-9:
        return None
    told = f"{rate:.2f}" if num_options < 2 else f"{rate:.2f}, {able:.2f} without guessing,"
    return f"pass rate {told} is {'below' if able < low else 'above'} {low:g}-{high:g}"


def corrected_rate(rate: float, num_options: int) -> float:
    """Share of items known rather than guessed, at least 0; the rate itself without options."""
    if num_options < 2:
        return rate
    return max(0.0, (rate - 1 / num_options) / (1 - 1 / num_options))


def sample_key(sample: Sample) -> str:
    """Hash of images and normalised question."""
    return content_id([image.sha256 for image in sample.images], normalise(sample.question))


def normalise(text: str) -> str:
    """Lower case, single spaces, no punctuation at the ends."""
    return " ".join(text.lower().split()).strip(" .,;:!?()\"'")


def _check_options(sample: Sample) -> str | None:
    fewest, most = OPTIONS
    if not fewest <= len(sample.options) <= most:
        return f"{len(sample.options)} options; give {fewest} to {most}"
    if len({" ".join(option.split()) for option in sample.options}) < len(sample.options):
        return "two options are equal"
    if not all(option.strip() for option in sample.options):
        return "an option is empty"
    if sample.answer.value not in tuple(sample.letters):
        return f"answer {sample.answer.value!r} is none of the letters {sample.letters}"
    return None


def _answer_text(sample: Sample) -> str:
    if sample.answer.kind is AnswerKind.CHOICE:
        return sample.options[sample.letters.index(sample.answer.value)]
    return sample.answer.value
