"""What a program makes, and what its checker is shown."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dpe_ray.errors import DpeError
from dpe_ray.types import AnswerKind


class Undrawable(DpeError, ValueError):
    """These parameters give no picture with one clear answer: the slot ends, the stage goes on."""


class Unsettled(DpeError, ValueError):
    """A checker cannot tell the answer from what it is shown: the sample is refused."""


@dataclass(frozen=True)
class Task:
    """A picture and a question whose answer is known."""

    picture: Image.Image
    """RGB."""
    question: str
    answer: str
    """In words or digits, never a letter of an option."""
    kind: AnswerKind
    """NUMBER or TEXT: how the answer is compared when no options are offered."""
    rationale: str
    wrong: tuple[str, ...]
    """Wrong answers, likeliest mistakes first. One that equals the answer or another is dropped."""
    aliases: tuple[str, ...] = ()
    drawn: str = ""
    """Source that was handed to a renderer, where pixels alone cannot be read back."""


@dataclass(frozen=True)
class Shown:
    """What a checker may look at, beside the parameters; not the answer."""

    question: str
    pixels: NDArray[np.uint8]
    """[H, W, 3] of the stored picture."""
    drawn: str = ""
    """As in `Task`."""
    base: NDArray[np.uint8] | None = None
    """[H, W, 3] of the pool image that was edited."""
