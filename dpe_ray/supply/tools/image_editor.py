"""Two image editors of one form: Pillow operations, and a model that follows an instruction."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dpe_ray.models.call_budget import bounded
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.openai_edits import EditSpec
from dpe_ray.models.price import Price
from dpe_ray.models.rasters import plain_picture
from dpe_ray.ports import CallBudget, ImageKeeper
from dpe_ray.supply.tools.edit_limits import EditLimits, RefusedEdit
from dpe_ray.supply.tools.operations import EditPlan, apply
from dpe_ray.types import ImageRef


class ImageEditor(Protocol):
    """Makes a new image from others."""

    async def edit(self, images: Sequence[ImageRef], plan: EditPlan, *, category: str, seed: int) -> ImageRef:
        """Edit the first image; the others may be set beside it. Equal arguments, equal bytes where operations do it.

        Raises RefusedEdit when the plan cannot be done or its category forbids it, PoolError, and what models raise.
        """
        ...


class EditModel(Protocol):
    """A door to a model that edits images."""

    async def edit(self, images: Sequence[ImageRef], instruction: str, seed: int) -> bytes:
        """Encoded image. Raises ModelUnavailable, BadRequest, BadReply, PoolError."""
        ...


@dataclass(frozen=True)
class EditorDoor:
    """How a worker comes to edit images. Pickles when the keeper does."""

    keeper: ImageKeeper
    limits: EditLimits
    model: EditSpec | None = None
    """Follows instructions; None: operations only."""
    budget: CallBudget | None = None
    """Bounds the calls of the model; None: nothing does."""

    @property
    def name(self) -> str:
        """Entry of `models`, or pillow."""
        return self.model.name if self.model else "pillow"

    def open(self) -> "ImageEditor":
        """Build the editor. Raises ConfigError without the key that the model asks for."""
        pillow = PillowEditor(self.keeper, self.limits)
        if self.model is None:
            return pillow
        model = self.model.open()
        return ModelEditor(BoundedEdits(model, self.budget, self.model.price) if self.budget else model, pillow)


@dataclass(frozen=True)
class BoundedEdits:
    """Asks an editing model only while the budget lasts; its calls are the image editor's."""

    model: EditModel
    budget: CallBudget
    price: Price
    """Its answers tell no tokens: images sent alone are counted, as in the ledger."""

    async def edit(self, images: Sequence[ImageRef], instruction: str, seed: int) -> bytes:
        """As `EditModel.edit`. Raises BudgetExceeded."""
        usd = self.price.usd(0, 0, len(images))
        return await bounded(
            self.budget, "image_editor", lambda: self.model.edit(images, instruction, seed), lambda _: (0, usd)
        )


@dataclass(frozen=True)
class PillowEditor:
    """Does the operations of a plan; costs no call. Equal arguments, equal bytes."""

    keeper: ImageKeeper
    limits: EditLimits

    async def edit(self, images: Sequence[ImageRef], plan: EditPlan, *, category: str, seed: int) -> ImageRef:
        """As `ImageEditor.edit`."""
        self.limits.check(plan, category)
        if plan.instruction:
            raise RefusedEdit("edit: an instruction needs an editing model; configure one or ask for operations")
        return await asyncio.to_thread(self._edited, images, plan, seed)

    def _edited(self, images: Sequence[ImageRef], plan: EditPlan, seed: int) -> ImageRef:
        pictures = [decode(read_bytes(image)) for image in images]
        try:
            picture = apply(plan.operations, pictures, seed)
        except ValueError as error:
            raise RefusedEdit(f"edit: {error}") from error
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return self.keeper.put(buffer.getvalue(), "edit", _licence(images), _source(images, plan, seed))


@dataclass(frozen=True)
class ModelEditor:
    """Has a model follow the plan's instruction, then does its operations."""

    model: EditModel
    pillow: PillowEditor

    async def edit(self, images: Sequence[ImageRef], plan: EditPlan, *, category: str, seed: int) -> ImageRef:
        """As `ImageEditor.edit`; one call where there is an instruction."""
        self.pillow.limits.check(plan, category)
        if plan.instruction:
            data = await self.model.edit(images, plan.instruction, seed)
            alone = EditPlan(instruction=plan.instruction)
            picture = await asyncio.to_thread(plain_picture, data)
            images = (
                self.pillow.keeper.put(picture, "edit", _licence(images), _source(images, alone, seed)),
                *images[1:],
            )
        rest = plan.model_copy(update={"instruction": ""})
        return await self.pillow.edit(images, rest, category=category, seed=seed) if rest.operations else images[0]


def _licence(images: Sequence[ImageRef]) -> str:
    """Of all images that went in: what is made from them is bound by each."""
    return "; ".join(dict.fromkeys(image.licence for image in images if image.licence))


def _source(images: Sequence[ImageRef], plan: EditPlan, seed: int) -> str:
    parents = "+".join(image.sha256[:16] for image in images)
    return f"edit of {parents}, seed {seed}: {plan.model_dump_json(exclude_defaults=True)}"
