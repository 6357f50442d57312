"""Image search and editing whose results are written into the journal: what was done once is not done again.

A tool's result lies beside the calls of models, under a role of its own; the ledger shows it whole.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from pydantic import TypeAdapter

from dpe_ray.errors import PoolError
from dpe_ray.models.journal import Call, Journal, JournaledChat
from dpe_ray.ports import ChatReply, ChatRequest, ImageSearch, Message
from dpe_ray.supply.tools.edit_limits import EditLimits, RefusedEdit
from dpe_ray.supply.tools.image_editor import EditorDoor, ImageEditor
from dpe_ray.supply.tools.operations import EditPlan
from dpe_ray.types import AgentStep, ImageRef, Rejection

SEARCH, OPERATIONS, PAINTING = "image_search", "image_operations", "image_edit"
"""Roles in the journal: the first two ask no model, the third is one call of one that edits."""

Found = ImageRef | Rejection
_FOUND: TypeAdapter[Found] = TypeAdapter(Found)


class SearchDoor(Protocol):
    """A picklable description of an ImageSearch; workers open their own."""

    @property
    def name(self) -> str:
        """Who is asked, for the journal."""
        ...

    def open(self) -> ImageSearch:
        """Build the search, inside the process and event loop that will use it."""
        ...


@dataclass(frozen=True)
class Tools:
    """What the agents of a worker may use. Pickles when its doors do."""

    search: SearchDoor
    candidates: int = 4
    """Images per search."""
    editor: EditorDoor | None = None
    """None: images are taken as they are."""
    journal: str = ""
    """Folder of the journal; empty: nothing is recorded."""

    def open(self) -> "RecordedTools":
        """Open all doors, inside the process and event loop that will use them. Raises ConfigError without a key."""
        return RecordedTools(self)


class Used(NamedTuple):
    """What a tool gave, and the step that it was."""

    found: list[Found]
    step: AgentStep


class RecordedTools:
    """The tools of one worker."""

    def __init__(self, tools: Tools) -> None:
        self._tools, self._search = tools, tools.search.open()
        self._editor: ImageEditor | None = tools.editor.open() if tools.editor else None
        self._journal = Journal(tools.journal, "tools") if tools.journal else None

    @property
    def limits(self) -> EditLimits | None:
        """What may be edited; None when nothing is."""
        return self._tools.editor.limits if self._tools.editor else None

    @property
    def paints(self) -> bool:
        """Whether a model can follow an instruction."""
        return self._tools.editor is not None and self._tools.editor.model is not None

    async def search(self, query: str, page: int) -> Used:
        """Images with the query noted on each, and refusals. Raises what `ImageSearch.search` does."""
        asked = {"query": query, "count": self._tools.candidates, "page": page}

        async def work() -> list[Found]:
            found = await self._search.search(query, self._tools.candidates, page)
            return [replace(each, query=query) if isinstance(each, ImageRef) else each for each in found]

        return await self._recorded(SEARCH, self._tools.search.name, query, asked, (), work)

    async def edit(self, images: Sequence[ImageRef], plan: EditPlan, category: str, seed: int) -> Used:
        """One image, or why the edit was refused. Raises what models raise, BudgetExceeded."""
        editor, door = self._editor, self._tools.editor
        assert editor is not None, "nobody plans an edit without an editor"
        assert door is not None, "an editor came through its door"

        async def work() -> list[Found]:
            try:
                edited = await editor.edit(images, plan, category=category, seed=seed)
            except PoolError as error:
                return [Rejection(0, "image_editor" if isinstance(error, RefusedEdit) else "image", str(error))]
            return [replace(edited, query=images[0].query)]

        painted = bool(plan.instruction) and door.model is not None
        role, name = (PAINTING, door.name) if painted else (OPERATIONS, "pillow")
        asked = {"plan": plan.model_dump(mode="json"), "category": category, "seed": seed}
        parents = "+".join(image.sha256[:16] for image in images)
        return await self._recorded(role, name, parents, asked, tuple(images), work)

    async def _recorded(
        self,
        role: str,
        name: str,
        item: str,
        asked: dict[str, object],
        images: tuple[ImageRef, ...],
        work: Callable[[], Awaitable[list[Found]]],
    ) -> Used:
        request = ChatRequest((Message("user", json.dumps(asked, sort_keys=True), images),), role, item, "")
        tool = _Once(name, work)
        chat = JournaledChat(tool, self._journal, name, name) if self._journal else None
        reply = await chat.chat(request) if chat else await tool.ask(request, Call())
        found = [_FOUND.validate_json(text) for text in reply.texts]
        return Used(found, AgentStep(role, "", reply.model, reply.call))


@dataclass(frozen=True)
class _Once:
    """A piece of work in the form in which the journal asks models."""

    name: str
    work: Callable[[], Awaitable[list[Found]]]

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        """As `Asker.ask`."""
        call.attempts += 1
        return ChatReply(tuple(_FOUND.dump_json(each).decode() for each in await self.work()), self.name, "")
