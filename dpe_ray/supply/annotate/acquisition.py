"""From a weakness cell to a picture: plan, search, selection and edit, before any question is written."""

from dataclasses import dataclass

from dpe_ray.ports import Place
from dpe_ray.supply.annotate.agent import Tally
from dpe_ray.supply.annotate.cell_planner import CellPlanner, CellPlanReply
from dpe_ray.supply.annotate.edit_planner import EditPlanner, check_fusion
from dpe_ray.supply.annotate.image_selector import ImageSelector
from dpe_ray.supply.annotate.planner import PlanReply
from dpe_ray.supply.annotate.refusal import Refused, require
from dpe_ray.supply.tools.operations import EditPlan
from dpe_ray.supply.tools.recorded import PAINTING, RecordedTools, Used
from dpe_ray.types import ImageRef, Rejection, content_id


@dataclass(frozen=True)
class Acquired:
    """A picture for a cell."""

    image: ImageRef
    """The final one: what the question is about, and what all gates look at."""
    parents: tuple[ImageRef, ...]
    """What it was made of; none when it is an image as it was found."""
    plan: PlanReply


class Acquisition:
    """The agents and tools of one worker that find a picture."""

    def __init__(
        self, planner: CellPlanner, selector: ImageSelector, editor: EditPlanner, tools: RecordedTools, seed: int
    ) -> None:
        """`seed` of the round: each edit derives its own from it."""
        self._planner, self._selector, self._editor = planner, selector, editor
        self._tools, self._seed = tools, seed

    async def acquire(self, slot: int, place: Place, instruction: str, tally: Tally) -> Acquired:
        """Find a picture for a place; costs 2 to 4 calls when nothing is edited, up to 7 when a model edits.

        Raises Refused by gate `image_search`, `image_selector` or `image_editor`, and what models raise.
        """
        edits = self._tools.limits is not None
        plan = await self._planner.plan(place, slot, instruction, edits, tally)
        candidates = await self._search(plan, place, tally)
        selection = await self._selector.select(candidates, place.cell, plan, edits, tally)
        if not selection.images:
            raise Refused("image_selector", selection.reason or f"none of {len(candidates)} candidates was chosen")
        images = tuple(selection.images)
        if edits and (plan.edit.strip() or len(images) > 1):
            image = await self._edited(images, place, plan, tally)
        else:
            image = images[0]
        return Acquired(image, () if image == images[0] else images, plan.for_writer(place.cell))

    async def _search(self, plan: CellPlanReply, place: Place, tally: Tally) -> list[ImageRef]:
        used = await self._tools.search(plan.query, place.number)
        tally.steps.append(used.step)
        images = {each.sha256: each for each in used.found if isinstance(each, ImageRef)}
        if images:
            return list(images.values())
        refused = [each.reason for each in used.found if isinstance(each, Rejection)]
        why = f"all {len(refused)} were refused, the first: {refused[0]}" if refused else "nothing was found"
        raise Refused("image_search", f"{plan.query!r}: {why}")

    async def _edited(self, images: tuple[ImageRef, ...], place: Place, plan: CellPlanReply, tally: Tally) -> ImageRef:
        category, limits = place.cell.rpartition("/")[0], self._tools.limits
        assert limits is not None, "edits keep to limits"
        allowed = limits.allowed(category, instruction=self._tools.paints)
        edit = await self._editor.plan(images, place.cell, plan, allowed, tally)
        if edit == EditPlan() and len(images) == 1:
            return images[0]
        require("image_editor", check_fusion(images, edit))
        seed = int(content_id(self._seed, place.cell, place.number, "edit")[:7], 16)
        return _image_of(await self._tools.edit(images, edit, category, seed), tally)


def _image_of(used: Used, tally: Tally) -> ImageRef:
    tally.calls += used.step.role == PAINTING
    tally.steps.append(used.step)
    (edited,) = used.found
    if isinstance(edited, Rejection):
        raise Refused(edited.gate, edited.reason)
    return edited
