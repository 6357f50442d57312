"""The planner of a slot that begins with a cell: what to search for, and what to ask about it."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, StringConstraints

from dpe_ray.ports import ChatModel, Place
from dpe_ray.supply.annotate.agent import Agent, Tally
from dpe_ray.supply.annotate.planner import PlanReply
from dpe_ray.types import AnswerKind

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Level = Annotated[
    Literal["easy", "medium", "hard"],
    BeforeValidator(lambda said: said.strip().lower() if isinstance(said, str) else said),
]


class CellPlanReply(BaseModel):
    """What the planner answers when it is asked by one weakness cell."""

    query: Words
    """What images are searched by."""
    must_show: str
    """What an image has to show, so that the question can be asked about it."""
    question_type: AnswerKind
    difficulty: Level = "medium"
    plan: str = ""
    """What the question is about."""
    edit: str = ""
    """What should be changed in the image first, or which images be set side by side; empty: nothing."""

    def for_writer(self, cell: str) -> PlanReply:
        """The same in the form in which a plan about a given image comes."""
        plan = f"{self.plan} The image was chosen to show: {self.must_show}. Difficulty: {self.difficulty}."
        return PlanReply(image_category="", cell=cell, question_type=self.question_type, plan=plan.strip())


class CellPlanner:
    """Looks at what is wanted; there is no image yet."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        self._agent = Agent("planner", model, CellPlanReply, prompt_path, prompt="cell_planner")

    async def plan(self, place: Place, slot: int, instruction: str, edits: bool, tally: Tally) -> CellPlanReply:
        """Plan one sample of a cell; `edits` says whether its image may be changed."""
        category, _, skill = place.cell.rpartition("/")
        return await self._agent.ask_about(
            (),
            place_item(slot, place),
            tally,
            cell=place.cell,
            category=category,
            skill=skill,
            instruction=" ".join(instruction.split()),
            number=place.number + 1,
            edits=edits,
        )


def place_item(slot: int, place: Place) -> str:
    """What a plan's call is about, as the journal keeps it."""
    return f"{slot}:{place.number}:{place.cell}"


def place_of(item: str) -> tuple[int, Place]:
    """Slot and place that `place_item` wrote."""
    slot, number, cell = item.split(":", 2)
    return int(slot), Place(cell, int(number))
