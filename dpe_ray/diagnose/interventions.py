"""The same item asked under easier conditions: facts given as text, the picture enlarged, the options reordered."""

import hashlib
import io
import math
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

import imagehash
from PIL import Image
from pydantic import BaseModel, Field, field_validator

from dpe_ray.errors import StoreError
from dpe_ray.grading.options import spread_answers
from dpe_ray.grading.prompt import ANSWER_VERSION, answer_prompt, lettered_options
from dpe_ray.grading.repair import ask
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatModel, ChatRequest, Message
from dpe_ray.types import AnswerKind, ImageRef, Sample

ZOOM = 2.0
"""Least factor by which a side grows."""
MARGIN = 0.05
"""Of the picture, kept around the region that matters."""
WHOLE = 0.7
"""A region of at least this share of the picture is the picture."""
MOST_PIXELS = 16_000_000
MAX_TOKENS = 300


class Asking(NamedTuple):
    """One way to put an item to the student."""

    sample: Sample
    """What the answer is graded against; its options stand in the order in which they are shown."""
    text: str
    images: tuple[ImageRef, ...]
    prompt_version: str


class Observation(BaseModel):
    """What the observer saw."""

    facts: str = Field(min_length=1)
    region: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom in fractions of the picture; None when the facts lie all over it."""

    @field_validator("region", mode="before")
    @classmethod
    def _possible(cls, region: object) -> object:
        """A box that is none says nothing about the facts: it counts as not given."""
        if not isinstance(region, list | tuple) or len(region) != 4:
            return None
        if not all(isinstance(edge, int | float) and 0 <= edge <= 1 for edge in region):
            return None
        left, top, right, bottom = region
        return region if left < right and top < bottom else None


async def observe(sample: Sample, observer: ChatModel, prompt: PromptFile) -> Observation:
    """Have the facts that the question depends on written down; one call, two when the reply does not parse.

    Raises BadReply, ModelUnavailable, BadRequest.
    """
    shown = prompt.render(question=sample.question, options=lettered_options(sample))
    message = Message("user", shown, sample.images)
    request = ChatRequest((message,), "observer", sample.id, prompt.label, max_tokens=MAX_TOKENS)
    return await ask(observer, request, Observation)


def with_facts(sample: Sample, facts: str, prompt: PromptFile) -> Asking:
    """Put the facts before the usual prompt; the image stays."""
    text = prompt.render(facts=" ".join(facts.split()), task=answer_prompt(sample).text)
    return Asking(sample, text, sample.images, f"{prompt.label}+{ANSWER_VERSION}")


def enlarged(sample: Sample, observed: Observation, folder: Path) -> Asking:
    """Put the region that matters, enlarged, behind the picture; without a region the picture itself is enlarged.

    New pictures are written to `folder` under their hash. Raises PoolError, StoreError.
    """
    box = observed.region
    if box is None or len(sample.images) != 1 or (box[2] - box[0]) * (box[3] - box[1]) >= WHOLE:
        images = tuple(_zoomed(image, (0.0, 0.0, 1.0, 1.0), folder) for image in sample.images)
    else:
        images = (*sample.images, _zoomed(sample.images[0], box, folder))
    return Asking(sample, answer_prompt(sample).text, images, ANSWER_VERSION)


def reordered(sample: Sample) -> list[Asking]:
    """Every other rotation of the options; none without options, or where options speak of each other."""
    if sample.answer.kind is not AnswerKind.CHOICE:
        return []
    turned = spread_answers([sample] * len(sample.options))
    others = {s.options: s for s in turned if s.options != sample.options}
    return [Asking(s, answer_prompt(s).text, s.images, ANSWER_VERSION) for s in others.values()]


def _zoomed(image: ImageRef, box: tuple[float, float, float, float], folder: Path) -> ImageRef:
    picture = decode(read_bytes(image))
    width, height = picture.size
    left, top = max(0.0, box[0] - MARGIN) * width, max(0.0, box[1] - MARGIN) * height
    right, bottom = min(1.0, box[2] + MARGIN) * width, min(1.0, box[3] + MARGIN) * height
    part = picture.crop((math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)))
    factor = max(ZOOM, max(picture.size) / max(part.size))
    factor = max(1.0, min(factor, math.sqrt(MOST_PIXELS / (part.width * part.height))))
    size = round(part.width * factor), round(part.height * factor)
    return _stored(part.resize(size, Image.Resampling.LANCZOS), image, folder)


def _stored(picture: Image.Image, source: ImageRef, folder: Path) -> ImageRef:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = folder / sha256
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
                file.write(buffer.getvalue())
            os.replace(file.name, path)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror}); check space and rights") from error
    phash = str(imagehash.phash(picture))
    return ImageRef(sha256, phash, *picture.size, "image/png", str(path), "edit", source.licence)
