"""The judge: a model that sees image, question, reference and answer, and says right or wrong and why.

One request serves both the grade that no rule can give and the attribution of a failure, so a journal answers the
second from the first.
"""

import logging
from dataclasses import dataclass

from pydantic import BaseModel, Field

from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.grading.prompt import lettered_options
from dpe_ray.grading.repair import ask
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatModel, ChatRequest, Message
from dpe_ray.taxonomy import ERROR_TYPES
from dpe_ray.types import Sample, Verdict, VerdictKind

MAX_TOKENS = 400
LONGEST_ANSWER = 6_000
"""Characters of an answer that are shown to the judge, from its end."""

log = logging.getLogger(__name__)


class Judgement(BaseModel):
    """The judge's reply."""

    correct: bool
    error_type: str | None = ""
    description: str | None = Field(default="")


@dataclass(frozen=True)
class Judge:
    """A judge with its prompt."""

    model: ChatModel
    prompt: PromptFile

    async def judge(self, sample: Sample, text: str) -> Judgement:
        """One call, two when the first reply does not parse. Raises BadReply, ModelUnavailable, BadRequest."""
        request = judge_request(self.prompt, sample, text)
        return await ask(self.model, request, Judgement)

    async def grade(self, sample: Sample, text: str) -> Verdict:
        """Give a verdict; `not_judged` when the judge is out of reach or unclear. Raises BudgetExceeded."""
        try:
            judgement = await self.judge(sample, text)
        except (ModelUnavailable, BadRequest, BadReply) as error:
            log.warning("judge of %s: %s", sample.id, error)
            return Verdict(VerdictKind.NOT_JUDGED, self.prompt.label, str(error))
        kind = VerdictKind.CORRECT if judgement.correct else VerdictKind.WRONG
        return Verdict(kind, self.prompt.label, " ".join((judgement.description or "").split()))


def judge_prompt(override: str = "") -> PromptFile:
    """Load the shipped prompt, or the user's own file."""
    return PromptFile.load("dpe_ray.grading", "judge", override)


def judge_request(prompt: PromptFile, sample: Sample, text: str) -> ChatRequest:
    """Build the request about one answer; equal answers of one item make equal requests."""
    shown = prompt.render(
        question=sample.question,
        options=lettered_options(sample),
        reference=sample.answer.value,
        answer=text[-LONGEST_ANSWER:],
        error_types=ERROR_TYPES,
    )
    message = Message("user", shown, sample.images)
    return ChatRequest((message,), "judge", sample.id, prompt.label, max_tokens=MAX_TOKENS)
