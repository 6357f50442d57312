"""The question writer: observes the image, then asks and answers."""

from typing import NamedTuple

from pydantic import BaseModel, field_validator

from dpe_ray.ports import ChatModel
from dpe_ray.supply.annotate.agent import Agent, Tally
from dpe_ray.supply.annotate.planner import PlanReply
from dpe_ray.types import Answer, AnswerKind, ImageRef, Sample


class QuestionReply(BaseModel):
    """What the question writer answers."""

    observation: str = ""
    question: str
    options: list[str] = []
    answer: str
    """A letter for a choice."""
    rationale: str = ""

    @field_validator("answer", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) else value


class Refusal(NamedTuple):
    """A question that a gate or the validator sent back."""

    question: str
    reason: str


class QuestionWriter:
    """Writes one question for a planned image."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        self._agent = Agent("question_writer", model, QuestionReply, prompt_path)

    async def write(self, image: ImageRef, plan: PlanReply, refusals: list[Refusal], tally: Tally) -> Sample:
        """Draft a sample, unchecked and without provenance; earlier refusals are told, so that it asks otherwise."""
        told = [Refusal(*(" ".join(text.split()) for text in refusal)) for refusal in refusals]
        reply = await self._agent.ask(
            image,
            tally,
            cell=plan.cell,
            question_type=plan.question_type.value,
            plan=" ".join(plan.plan.split()),
            refusals=told,
        )
        category, _, skill = plan.cell.rpartition("/")
        value = reply.answer.strip()
        return Sample(
            images=(image,),
            question=reply.question.strip(),
            answer=Answer(plan.question_type, _letter(value) if plan.question_type is AnswerKind.CHOICE else value),
            options=tuple(option.strip() for option in reply.options),
            rationale=reply.rationale,
            category=category,
            skills=(skill,),
        )


def _letter(answer: str) -> str:
    """`(B)`, `b.` and `B` name the same option."""
    return answer.strip(" ().:").upper()
