"""The planner of construction: fills in typed parameters for a weak cell, several samples a call, never code."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, field_validator

from dpe_ray.grading.repair import ask
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatModel, ChatRequest, Message
from dpe_ray.supply.annotate.agent import Counted, Tally
from dpe_ray.supply.construct.registry import AnyProgram

PACKAGE = "dpe_ray.supply.construct"
ROLE, PROMPT = "planner", "program_planner"
TOKENS_PER_SAMPLE = 400
"""Room that a reply has for each parameter set."""


class Proposal(BaseModel):
    """One sample that a planner wants: not validated yet, that is done sample by sample."""

    program: str = ""
    params: dict[str, Any] = {}

    @field_validator("params", mode="before")
    @classmethod
    def _as_object(cls, value: object) -> object:
        """Some models write JSON into a string."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return {}


class ProposalReply(BaseModel):
    """What the planner answers."""

    samples: list[Proposal]

    @field_validator("samples", mode="before")
    @classmethod
    def _each_for_itself(cls, value: object) -> object:
        """One entry that is no object must not spoil the others: it becomes an empty proposal, which is refused."""
        if not isinstance(value, list):
            return value
        return [
            item if isinstance(item, dict) and isinstance(item.get("params", {}), dict | str) else {} for item in value
        ]


class ProgramPlanner:
    """Asks the teacher for parameters."""

    def __init__(self, model: ChatModel, prompt_path: str = "") -> None:
        """`prompt_path` is a prompt file of the user's own; empty for ours. Raises ConfigError when it is unusable."""
        self._model, self._prompt = model, PromptFile.load(PACKAGE, PROMPT, prompt_path)

    async def propose(
        self,
        cell: str,
        instruction: str,
        programs: Sequence[AnyProgram],
        *,
        level: float,
        part: int,
        count: int,
        seed: int,
        tally: Tally,
    ) -> list[Proposal]:
        """Ask for at most `count` parameter sets; one call, two when the first reply does not parse.

        Raises BadReply after that, and whatever the model raises. An empty list means that no program fits.
        """
        text = self._prompt.render(
            cell=cell,
            instruction=" ".join(instruction.split()),
            difficulty=f"{level:.2f}",
            programs=programs,
            part=part,
            count=count,
        )
        request = ChatRequest(
            (Message("user", text),),
            ROLE,
            f"{cell}#{part}",
            self._prompt.label,
            temperature=1.0,
            max_tokens=512 + TOKENS_PER_SAMPLE * count,
            seed=seed,
        )
        reply = await ask(Counted(self._model, tally), request, ProposalReply)
        return reply.samples[:count]
