"""The oracle as a reader: a teacher that sees no image and knows of a rationale what the text says, no more.

What the steps so far imply comes from the world's language (`world.fine_steps`), never from a scene. Axes: K options.
"""

import math
import re
from collections.abc import Callable, Sequence

from dpe_ray.grading.rules import normalise
from dpe_ray.micro.asked import Asked
from dpe_ray.micro.world.fine_steps import implied_answer
from dpe_ray.ports import EngineRequest
from dpe_ray.seeds import child_seed
from dpe_ray.types import Completion

LETTERS = "ABCDEFGHIJ"
GAIN = 3.0
"""Log-odds by which an implied answer gains on every other."""
REST = 0.1
"""Chance that all options together have beforehand of which nothing is said."""

_KNOWN = re.compile(r"\(([A-Z])\)[^()%]*?(\d+) %")


def choose_option(asked: Asked) -> tuple[float, ...]:
    """[K] log-probabilities: what is known beforehand, moved by what the steps imply."""
    options, implied = asked.options, implied_answer(asked.question, asked.numbered("Steps"))
    chances = {letter: int(percent) / 100 for letter, percent in _KNOWN.findall(asked.values["Known beforehand"])}
    unnamed = len(options) - len(chances)
    weights = [
        math.log(chances[letter] * (1 - REST * bool(unnamed)) if letter in chances else REST / unnamed)
        + GAIN * (implied is not None and normalise(option) == normalise(implied))
        for letter, option in zip(LETTERS, options, strict=False)
    ]
    return _normalised(weights)


def judge_step(asked: Asked) -> tuple[float, ...]:
    """[2] log-probabilities of right and wrong: wrong is a step after which the text leads elsewhere than before."""
    steps, reference = asked.numbered("Steps"), asked.first_line("Reference answer")
    before, after = (implied_answer(asked.question, steps[:stop]) for stop in (-1, None))
    wrong = after not in (None, before) and normalise(str(after)) != normalise(reference)
    return _normalised([0.0, GAIN] if wrong else [GAIN, 0.0])


CHOOSERS: dict[str, Callable[[Asked], tuple[float, ...]]] = {"reader": choose_option, "step judge": judge_step}
"""Roles that answer with a letter, and what gives their log-probabilities."""


def write_rationale(asked: Asked) -> str:
    """All that can be said towards an answer without the image."""
    return f"1. {asked.question}\n2. so it is {asked.first_line('Reference answer')}"


def lettered(log_probs: Sequence[float], request: EngineRequest, key: str) -> tuple[Completion, ...]:
    """[n] completions of one letter: the likeliest, or drawn where there is a temperature, fixed by the key."""
    top = sorted(zip(LETTERS, log_probs, strict=False), key=lambda pair: -pair[1])
    alternatives = (tuple(top[: request.top_logprobs]),) if request.top_logprobs else ()
    completions = []
    for index in range(request.n):
        letter, log_prob = _drawn(top, key, request.seed or 0, index) if request.temperature > 0 else top[0]
        token_ids, logprobs = ((ord(letter),), (log_prob,)) if request.logprobs else ((), ())
        completions.append(Completion(letter, token_ids, logprobs, top_logprobs=alternatives))
    return tuple(completions)


def _drawn(top: Sequence[tuple[str, float]], key: str, seed: int, index: int) -> tuple[str, float]:
    left = child_seed(seed, key, index) / 2**31
    for letter, log_prob in top:
        left -= math.exp(log_prob)
        if left < 0:
            return letter, log_prob
    return top[-1]


def _normalised(weights: Sequence[float]) -> tuple[float, ...]:
    total = math.log(sum(math.exp(weight) for weight in weights))
    return tuple(weight - total for weight in weights)
