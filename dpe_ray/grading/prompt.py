"""The one prompt under which the student answers, wherever it answers: diagnosis, pass rate, rollouts, evaluation.

One text for all of them: a policy trained under one prompt and measured under another is measured wrongly.
"""

from functools import cache

from dpe_ray.models.prompts import PromptFile
from dpe_ray.types import Prompt, Sample

ANSWER_VERSION = "answer@1"
"""Enters the journal keys; rises with every change of the file."""


def answer_prompt(sample: Sample) -> Prompt:
    """Render the sample's question, its lettered options, and the form the answer should have."""
    text = _file().render(question=sample.question, options=lettered_options(sample))
    return Prompt(sample, text)


def lettered_options(sample: Sample) -> list[tuple[str, str]]:
    """(letter, text) per option, in order; empty without options."""
    return list(zip(sample.letters, sample.options, strict=True))


@cache
def _file() -> PromptFile:
    return PromptFile.load("dpe_ray.grading", "answer")
