"""The image editor's head: turns the wish to change an image into operations that can be checked."""

from collections.abc import Sequence

from pydantic import BaseModel

from dpe_ray.ports import ChatModel
from dpe_ray.supply.annotate.agent import Agent, Tally
from dpe_ray.supply.annotate.cell_planner import CellPlanReply
from dpe_ray.supply.tools.operations import MOST_STEPS, EditPlan
from dpe_ray.types import ImageRef

ARRANGING = frozenset({"side_by_side", "grid"})
"""Operations that bring several images into one."""


class EditReply(BaseModel):
    """What the image editor answers."""

    edit: EditPlan
    reason: str = ""


class EditPlanner:
    """Looks at the chosen images and says in operations what is to be done to them."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        self._agent = Agent("image_editor", model, EditReply, prompt_path)

    async def plan(
        self, images: Sequence[ImageRef], cell: str, plan: CellPlanReply, allowed: Sequence[str], tally: Tally
    ) -> EditPlan:
        """Ask for a plan out of what is `allowed`; whether it keeps to that is for `EditLimits.check` to say."""
        reply = await self._agent.ask_about(
            tuple(images),
            "+".join(image.sha256[:16] for image in images),
            tally,
            count=len(images),
            cell=cell,
            category=cell.rpartition("/")[0],
            wish=" ".join(plan.edit.split()) or "Set the images together, so that one question can be asked about all.",
            must_show=" ".join(plan.must_show.split()),
            allowed=list(allowed),
            most=MOST_STEPS,
        )
        return reply.edit


def check_fusion(images: Sequence[ImageRef], plan: EditPlan) -> str | None:
    """Refuse a plan that would leave all but the first of several images out."""
    if len(images) < 2 or plan.instruction or ARRANGING & {step.op for step in plan.operations}:
        return None
    return f"{len(images)} images were chosen, and the plan sets none beside the first; use side_by_side or grid"
