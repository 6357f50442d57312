"""One call of one role: prompt file in, typed reply out, every call counted."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from dpe_ray.grading.repair import ask
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatModel, ChatReply, ChatRequest, Message
from dpe_ray.types import AgentStep, ImageRef

PACKAGE = "dpe_ray.supply.annotate"

R = TypeVar("R", bound=BaseModel)


@dataclass
class Tally:
    """What one slot has asked so far."""

    calls: int = 0
    """Answered ones of the teacher's roles. What the journal answers counts as well: this stage paid it before it was
    interrupted, and a slot must cost the same both times."""
    steps: list[AgentStep] = field(default_factory=list)


@dataclass(frozen=True)
class Counted:
    """A ChatModel that writes a slot's tally."""

    model: ChatModel
    tally: Tally

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`."""
        reply = await self.model.chat(request)
        asked_before = reply.cached and any(step.call == reply.call for step in self.tally.steps)
        self.tally.calls += request.role != "student" and not asked_before
        self.tally.steps.append(AgentStep(request.role, request.prompt_version, reply.model, reply.call))
        return reply


class Agent(Generic[R]):
    """A role that answers in JSON: the model that plays it, its prompt, the type of its reply."""

    def __init__(self, role: str, model: ChatModel, reply: type[R], prompt_path: str = "", *, prompt: str = "") -> None:
        """`prompt_path` is a prompt file of the user's own; empty for ours, of the name `prompt`, or the role's.

        Raises ConfigError when it is unusable.
        """
        self._role, self._model, self._reply = role, model, reply
        self._prompt = PromptFile.load(PACKAGE, prompt or role, prompt_path)

    async def ask(self, image: ImageRef, tally: Tally, **values: object) -> R:
        """Ask about one image, as `ask_about`."""
        return await self.ask_about((image,), image.sha256, tally, **values)

    async def ask_about(self, images: tuple[ImageRef, ...], item: str, tally: Tally, **values: object) -> R:
        """Ask about images, under the name `item` in the journal.

        One call, two when the first reply does not parse. Raises BadReply after that.
        """
        message = Message("user", self._prompt.render(**values), images)
        request = ChatRequest((message,), self._role, item, self._prompt.label)
        return await ask(Counted(self._model, tally), request, self._reply)
