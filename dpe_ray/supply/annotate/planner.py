"""The planner: which wanted cell an image serves, and how."""

from collections.abc import Mapping

from pydantic import BaseModel

from dpe_ray.ports import ChatModel
from dpe_ray.supply.annotate.agent import Agent, Tally
from dpe_ray.taxonomy import known_name
from dpe_ray.types import AnswerKind, ImageRef


class PlanReply(BaseModel):
    """What the planner answers."""

    image_category: str
    cell: str
    """`category/skill`, or empty when no wanted cell fits."""
    question_type: AnswerKind
    plan: str


class Planner:
    """Looks at an image and at what is wanted."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        self._agent = Agent("planner", model, PlanReply, prompt_path)

    async def plan(self, image: ImageRef, cells: Mapping[str, str], tally: Tally) -> PlanReply:
        """Choose among `cells` (cell -> instruction), however the reply writes them; one not offered counts as none."""
        offered = {cell: " ".join(text.split()) for cell, text in cells.items()}
        reply = await self._agent.ask(image, tally, cells=offered)
        return reply.model_copy(update={"cell": known_name(reply.cell, offered)})
