"""The validator: a second look at image, question and proposed answer."""

from pydantic import BaseModel

from dpe_ray.ports import ChatModel
from dpe_ray.supply.annotate.agent import Agent, Tally
from dpe_ray.types import Sample

CHECKS = ("visible", "answerable", "unambiguous", "answer_correct")


class ValidationReply(BaseModel):
    """What the validator answers."""

    image_category: str
    visible: bool
    answerable: bool
    unambiguous: bool
    answer_correct: bool
    reason: str = ""

    def refusal(self) -> str | None:
        """None when every check holds, else what failed and why."""
        failed = [check.replace("_", " ") for check in CHECKS if not getattr(self, check)]
        return f"not {', not '.join(failed)}: {self.reason or 'no reason given'}" if failed else None


class Validator:
    """Judges a drafted sample; it sees the proposed answer, so blind solves follow."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        self._agent = Agent("validator", model, ValidationReply, prompt_path)

    async def check(self, sample: Sample, tally: Tally) -> ValidationReply:
        """Ask about the sample's first image."""
        return await self._agent.ask(
            sample.images[0],
            tally,
            category=sample.category,
            question=sample.question,
            options=sample.options,
            letters=sample.letters,
            answer=sample.answer.value,
        )
