"""The port of generator programs: what a file of `programs/`, or a user's own file, must offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from dpe_ray.supply.construct.task import Shown, Task, Undrawable

ATTEMPTS = 1000
"""Of drawing parameters at random: most programs need one to five."""


class Params(BaseModel):
    """Parameters of a program. Every field has bounds: nothing that validates can crash or take a second.

    The docstrings of class and fields are what a planner reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    ask: str
    """Which skill is asked for; every program narrows it to a Literal of its skills."""
    form: Literal["choice", "open"] = "choice"
    """With four options, or without any; names of a single letter are asked for without, lest they be taken for the
    letters of options."""


P = TypeVar("P", bound=Params)


class Program(ABC, Generic[P]):
    """Draws a picture from typed parameters and asks a question that the parameters answer.

    A program has no state: equal parameters, seeds and base images give equal bytes. `make` may raise Undrawable and
    `check` Unsettled; ArithmeticError, LookupError, TypeError and ValueError of either also end no more than the slot.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Rises with every change of what is drawn or asked; stands in the provenance."""
    summary: ClassVar[str]
    """One sentence for the planner."""
    categories: ClassVar[tuple[str, ...]]
    """Of the taxonomy: what the finished picture is."""
    difficulty: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Easiest and hardest that `sample` reaches, within 0-1."""
    params: ClassVar[type[Params]]
    on_image: ClassVar[bool] = False
    """Whether it edits a pool image."""

    @property
    def skills(self) -> tuple[str, ...]:
        """What it can ask for: the values of `params.ask`."""
        return get_args(self.params.model_fields["ask"].annotation)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the parameters."""
        return self.params.model_json_schema()

    @abstractmethod
    def sample(self, ask: str, difficulty: float, rng: Random) -> P:
        """Draw parameters that ask for one of `skills`; `difficulty` is 0-1 and lies in the program's range."""

    @abstractmethod
    def make(self, params: P, rng: Random, base: Image.Image | None) -> Task:
        """Draw and ask. `base` is an RGB pool image for programs with `on_image`, None for all others."""

    @abstractmethod
    def check(self, params: P, shown: Shown) -> str:
        """Work the answer out once more, by another way than `make`: from pixels and the question where that can be."""


def first_valid(attempt: Callable[[], P]) -> P:
    """Draw parameters until they validate. Raises Undrawable, with the last reason, after 1000 attempts."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
    raise Undrawable(f"no parameters were found: {problem}")


def scaled(low: int, high: int, difficulty: float) -> int:
    """A whole number between `low` (at difficulty 0) and `high` (at 1)."""
    return round(low + (high - low) * difficulty)
