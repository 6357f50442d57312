"""What a sample is trained to be answered with: its rationale as numbered steps, then the line `answer: X`.

The form is the one that the answer prompt asks for (`grading/prompts/answer.jinja`).
"""

import re

from dpe_ray.grading.rules import grade, needs_judge
from dpe_ray.types import Sample, VerdictKind

_ANSWER_LINE = re.compile(r"\W*(?:the\s+)?(?:final\s+)?answer\b\W*(?:is\b|:|=)", re.IGNORECASE)
_STATED = re.compile(
    r"(?:^|\b(?:so|thus|hence|therefore)\b)\W*(?:the\s+)?(?:(?:final|correct|right)\s+)?answer\b\W*(?:is\b|:|=)",
    re.IGNORECASE,
)
"""At the beginning of a sentence, or of what it concludes."""
_NUMBERED = re.compile(r"^\s*(?:step\s+)?\d+\s*[.):](?!\d)\s*(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")


def completion_text(sample: Sample) -> str:
    """Numbered steps and the answer line; the answer line alone for a sample without a rationale.

    Example:
        The rationale "The bars are 3 and 5. 5 is larger." and the answer B give three lines: `1. The bars are 3 and
        5.`, `2. 5 is larger.`, `answer: B`.
    """
    steps = [f"{number}. {step}" for number, step in enumerate(rationale_steps(sample.rationale), start=1)]
    return "\n".join([*steps, f"answer: {sample.answer.value.strip()}"])


def rationale_steps(rationale: str) -> list[str]:
    """Steps without their numbers and without a closing answer line.

    Numbered lines are steps, with the lines that go on below them; else every line is one; else every sentence.
    """
    lines = [line.strip() for line in rationale.splitlines() if line.strip() and not _ANSWER_LINE.match(line)]
    if any(_NUMBERED.match(line) for line in lines):
        steps: list[str] = []
        for line in lines:
            if steps and not _NUMBERED.match(line):
                steps[-1] += f" {line}"
            else:
                steps.append(_NUMBERED.sub("", line, count=1))
        return steps
    if len(lines) == 1:
        return [part for part in _SENTENCE_END.split(lines[0]) if not _ANSWER_LINE.match(part)]
    return lines


def contradicts(sample: Sample) -> bool:
    """Whether the rationale states an answer of its own, and another than the sample's.

    A closing answer line must be right by rule. The last statement within the steps must not be clearly wrong: what no
    rule can tell, such as "The answer is in the legend.", contradicts nothing.
    """
    lines = sample.rationale.splitlines()
    closing = [line for line in lines if _ANSWER_LINE.match(line)]
    if closing and not grade(sample, closing[-1]).correct:
        return True
    told = [
        sentence[found.start() :]
        for line in lines
        if line not in closing
        for sentence in _SENTENCE_END.split(_NUMBERED.sub("", line, count=1))
        if (found := _STATED.search(sentence))
    ]
    verdict = grade(sample, told[-1]) if told else None
    return verdict is not None and verdict.kind is VerdictKind.WRONG and not needs_judge(verdict)
