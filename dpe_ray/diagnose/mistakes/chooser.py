"""How likely a teacher finds each option: from the log-probabilities of its first token, or from sampled answers.

K options. The teacher sees text alone: a request with an image is a broken invariant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dpe_ray.errors import BadRequest
from dpe_ray.grading.extract import extract_answer
from dpe_ray.ports import ChatModel, ChatReply, ChatRequest
from dpe_ray.types import AnswerKind

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOP_LOGPROBS = 20
"""Alternatives asked for: the most that endpoints give."""
FLOOR = math.log(1e-9)
"""Least log-probability of a letter that is not among the alternatives."""
SAMPLE_TOKENS = 8
"""Room for `(B)` and some words around it."""


@dataclass
class TextOnly:
    """A ChatModel that is never shown an image; counts its calls."""

    model: ChatModel
    calls: int = 0

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As the model does. Raises ValueError when a message carries an image."""
        if any(message.images for message in request.messages):
            raise ValueError(f"request about {request.item} carries an image; mistakes are located from text alone")
        self.calls += 1
        return await self.model.chat(request)


@dataclass
class Chooser:
    """Reads a teacher's distribution over lettered options. One for each item: the first reply decides how."""

    model: TextOnly
    samples: int
    """Answers drawn where the endpoint gives no log-probabilities."""
    _gives_logprobs: bool = field(default=True, init=False)

    async def choose(self, request: ChatRequest, num_options: int) -> tuple[float, ...]:
        """[K] natural log-probabilities that sum to 1. One call; two where log-probabilities are missing."""
        if self._gives_logprobs and (found := await self._first_token(request, num_options)):
            return found
        reply = await self.model.chat(
            replace(request, n=self.samples, temperature=1.0, max_tokens=SAMPLE_TOKENS, top_logprobs=0)
        )
        return counted_log_probs(reply.texts, num_options)

    async def _first_token(self, request: ChatRequest, num_options: int) -> tuple[float, ...] | None:
        try:
            reply = await self.model.chat(replace(request, max_tokens=1, top_logprobs=TOP_LOGPROBS))
        except BadRequest:
            # what else it may refuse, it refuses again without log-probabilities
            self._gives_logprobs = False
            return None
        self._gives_logprobs = bool(reply.first_token and reply.first_token[0])
        return letter_log_probs(reply.first_token[0], num_options) if self._gives_logprobs else None


def letter_log_probs(alternatives: Sequence[tuple[str, float]], num_options: int) -> tuple[float, ...] | None:
    """[K] from one token's alternatives (text, log-probability); None when none of them is a letter of the options.

    Spaces, case and brackets do not matter, and all forms of one letter count. A letter that is absent is at most as
    likely as the least of the alternatives and as all that they leave.
    """
    found: dict[int, float] = {}
    for token, log_prob in alternatives:
        letter = token.strip(" \t\n().:*\u2581\u0120").upper()
        place = LETTERS[:num_options].find(letter) if len(letter) == 1 else -1
        if place >= 0:
            found[place] = _log_sum([found[place], log_prob]) if place in found else log_prob
    if not found:
        return None
    left = 1.0 - sum(math.exp(log_prob) for _, log_prob in alternatives)
    absent = max(FLOOR, min(math.log(max(left, 1e-12)), *(log_prob for _, log_prob in alternatives)))
    return normalised([found.get(place, absent) for place in range(num_options)])


def counted_log_probs(texts: Sequence[str], num_options: int) -> tuple[float, ...]:
    """[K] from sampled answers, one added to every count (Laplace); an answer without a letter does not count."""
    letters = LETTERS[:num_options]
    said = [extract_answer(text, AnswerKind.CHOICE, letters) for text in texts]
    return normalised([math.log(1 + said.count(letter)) for letter in letters])


def normalised(log_weights: Sequence[float]) -> tuple[float, ...]:
    """[K] Log-probabilities that sum to 1."""
    total = _log_sum(log_weights)
    return tuple(weight - total for weight in log_weights)


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))
