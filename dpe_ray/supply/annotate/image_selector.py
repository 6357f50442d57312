"""The image selector: looks at what a search found, and takes what serves the plan, or nothing."""

from collections.abc import Sequence

from pydantic import BaseModel

from dpe_ray.ports import ChatModel
from dpe_ray.supply.annotate.agent import Agent, Tally
from dpe_ray.supply.annotate.cell_planner import CellPlanReply
from dpe_ray.types import ImageRef

MOST_FUSED = 4
"""Images that may go into one."""


class SelectionReply(BaseModel):
    """What the image selector answers."""

    chosen: list[int]
    """Numbers of the images, from 1, the one to be edited first; none when no image serves."""
    reason: str = ""


class Selection(BaseModel):
    """What was taken."""

    images: list[ImageRef]
    """Empty when nothing serves."""
    reason: str


class ImageSelector:
    """Compares candidates."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        self._agent = Agent("image_selector", model, SelectionReply, prompt_path)

    async def select(
        self, candidates: Sequence[ImageRef], cell: str, plan: CellPlanReply, edits: bool, tally: Tally
    ) -> Selection:
        """Choose one image, or up to `MOST_FUSED` of them where they may be set together; costs one call or two."""
        most = min(MOST_FUSED, len(candidates)) if edits else 1
        reply = await self._agent.ask_about(
            tuple(candidates),
            "+".join(image.sha256[:16] for image in candidates),
            tally,
            count=len(candidates),
            cell=cell,
            category=cell.rpartition("/")[0],
            must_show=" ".join(plan.must_show.split()),
            plan=" ".join(plan.plan.split()),
            edit=" ".join(plan.edit.split()) if edits else "",
            most=most,
        )
        known = [number for number in dict.fromkeys(reply.chosen) if 1 <= number <= len(candidates)]
        return Selection(images=[candidates[number - 1] for number in known[:most]], reason=reply.reason.strip())
