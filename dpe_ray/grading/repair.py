"""Ask a model for a typed reply, and once more when the first does not parse."""

from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

from dpe_ray.errors import BadReply
from dpe_ray.models.structured import parse_reply
from dpe_ray.ports import ChatModel, ChatRequest, Message

M = TypeVar("M", bound=BaseModel)

LONGEST_QUOTE = 2_000
"""Characters of the unreadable reply that are sent back."""


async def ask(model: ChatModel, request: ChatRequest, form: type[M]) -> M:
    """One call, or two: the second shows the model its reply and what was wrong with it.

    Raises BadReply when the second does not parse either, and whatever the model raises.
    """
    request = replace(request, reply_schema=_schema(form))
    reply = await model.chat(request)
    try:
        return parse_reply(reply.texts[0], form)
    except BadReply as error:
        problem = str(error)
    said = Message("assistant", reply.texts[0][:LONGEST_QUOTE])
    repair = Message("user", f"That reply cannot be used ({problem}). Send only the JSON object that was asked for.")
    again = await model.chat(replace(request, messages=(*request.messages, said, repair)))
    return parse_reply(again.texts[0], form)


@cache
def _schema(form: type[BaseModel]) -> dict[str, Any]:
    return form.model_json_schema()
