"""From a program and its parameters to a checked sample: drawn, asked, confirmed, stored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pydantic import ValidationError

from dpe_ray.errors import PoolError
from dpe_ray.grading.rules import is_right_answer
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.refusal import Refused
from dpe_ray.supply.construct.drawing import TURN, as_png
from dpe_ray.supply.construct.options import is_letter, offer, same
from dpe_ray.supply.construct.program import Params
from dpe_ray.supply.construct.registry import AnyProgram
from dpe_ray.supply.construct.task import Shown, Task, Undrawable, Unsettled
from dpe_ray.types import AgentStep, Answer, AnswerKind, ImageRef, Sample, content_id

MOST_PIXELS = 4_000_000
"""Of a drawn picture."""
PROGRAM_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError)
"""What a program's or checker's own slip raises for odd parameters: it ends the slot, and is counted."""


class ImageSink(Protocol):
    """Where drawn pictures are kept: `pool.ImageStore` is one. Must pickle."""

    def put(self, data: bytes, origin: str = "pool", licence: str = "") -> ImageRef:
        """Store one encoded image under its content."""
        ...


@dataclass(frozen=True)
class Recipe:
    """All that makes a sample again, byte by byte, with the same versions of the libraries."""

    program: str
    params: Params
    seed: int
    base: ImageRef | None = None
    """Pool image, for programs that edit one."""

    @property
    def id(self) -> str:
        """Hash of program, parameters, seed and base image."""
        return content_id(self.program, self.params.model_dump(mode="json"), self.seed, self.base and self.base.sha256)


def read_params(program: AnyProgram, values: Mapping[str, Any]) -> Params:
    """Validate what a planner filled in. Raises Refused (gate `params`) with the first thing that is wrong."""
    try:
        return program.params.model_validate_json(json.dumps(values))
    except (ValidationError, ValueError) as error:
        first = (
            error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        )
        where = ".".join([program.name, *map(str, first["loc"])])
        raise Refused("params", f"{where}: {first['msg']}") from error


def construct(program: AnyProgram, recipe: Recipe, store: ImageSink, category: str) -> Sample:
    """Draw, ask, confirm and store one sample; without provenance and skills.

    Blocks, for 10-500 ms: call it in a thread. Raises Refused: gate `draw` when the parameters give no clear picture,
    `check` when the independent checker comes to another answer, `unconfirmed` when it comes to none, or `program` when
    either slips.
    """
    base = _open(recipe.base)
    try:
        with TURN:
            task = program.make(recipe.params, Random(child_seed(recipe.seed, "make")), base)
        sample = _asked(task, recipe)
        if task.picture.width * task.picture.height > MOST_PIXELS:
            raise Undrawable(f"{task.picture.width} x {task.picture.height} pixels are more than {MOST_PIXELS}")
        png = as_png(task.picture)
        with TURN:
            refusal = _confirm(program, recipe.params, sample, png, task.drawn, base)
    except Undrawable as error:
        raise Refused("draw", f"{program.name}: {error}") from error
    except Unsettled as error:
        raise Refused("unconfirmed", f"{program.name}: {error}") from error
    except PROGRAM_ERRORS as error:
        raise Refused("program", f"{program.name}: {type(error).__name__}: {error}") from error
    if refusal:
        raise Refused("check", f"{program.name}: {refusal}")
    licence = recipe.base.licence if recipe.base else ""
    image = store.put(png, "edit" if recipe.base else "construct", licence)
    return Sample((image,), sample.question, sample.answer, sample.options, sample.rationale, category)


def written(program: AnyProgram, recipe: Recipe) -> str:
    """The recipe as provenance keeps it: `Provenance.recipe`."""
    return json.dumps(
        {
            "program": recipe.program,
            "version": program.version,
            "params": recipe.params.model_dump(mode="json"),
            "seed": recipe.seed,
            "base": recipe.base.sha256 if recipe.base else "",
        },
        ensure_ascii=False,
    )


def program_step(program: AnyProgram, recipe: Recipe) -> AgentStep:
    """What provenance tells about the program; the seed stands where a model's name would, the recipe's id as call."""
    return AgentStep("program", f"{program.name}@{program.version}", f"seed {recipe.seed}", recipe.id)


def _open(base: ImageRef | None) -> Image.Image | None:
    try:
        return decode(read_bytes(base)) if base else None
    except PoolError as error:
        raise Refused("image", str(error)) from error


def _asked(task: Task, recipe: Recipe) -> Sample:
    if recipe.params.form == "open" or any(is_letter(text) for text in (task.answer, *task.wrong)):
        return Sample((), task.question, Answer(task.kind, task.answer, task.aliases), rationale=task.rationale)
    options, letter = offer(task, Random(child_seed(recipe.seed, "options")))
    return Sample((), task.question, Answer(AnswerKind.CHOICE, letter), options, task.rationale)


def _confirm(
    program: AnyProgram, params: Params, sample: Sample, png: bytes, drawn: str, base: Image.Image | None
) -> str | None:
    """Compare with the checker's answer: it must be the text of the right option and no other, or be graded right."""
    pixels = np.asarray(decode(png))
    found = program.check(params, Shown(sample.question, pixels, drawn, np.asarray(base) if base else None))
    if sample.options:
        fitting = "".join(
            letter for letter, text in zip(sample.letters, sample.options, strict=True) if same(text, found)
        )
        agrees, right = fitting == sample.answer.value, sample.options[sample.letters.index(sample.answer.value)]
    else:
        agrees, right = is_right_answer(sample, found), sample.answer.value
    return None if agrees else f"the checker finds {found!r}, the program said {right!r}"
